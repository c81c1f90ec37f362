"""What a program is told when a worker is gone."""


class WorkerLostError(RuntimeError):
  """Nothing is left that could run the computations; a run can be resumed from its folder."""
