"""A TFF worker: carries clients of a federation that runs elsewhere."""

import dataclasses
import signal

from experiments import program
from experiments.options import ConfigError, option, validate

SUMMARY = """\
Starts a worker, which runs clients for experiments started elsewhere with runtime=workers \
workers=<host>:<port>,..., until it is interrupted.
The connection has neither authentication nor encryption, and whoever reaches the port can run \
programs here: the worker listens on this host alone unless host= says otherwise; reach it from \
other hosts through a tunnel (ssh -L)."""


@dataclasses.dataclass
class WorkerConfig:
  """Options of `python -m experiments.worker`."""

  port: int = option(10_000, "Port; 0 takes a free one.", at_least=0, at_most=65_535)
  host: str = option("127.0.0.1", "Address to listen on.")
  device: str | None = option(
    None, "Where clients run, such as CPU:0 or GPU:0; null leaves it to TensorFlow."
  )


def run(config: WorkerConfig) -> int:
  """Serves until it is interrupted and returns the exit status."""
  validate(config)

  from tff_attacks.runtime import gpus, service, worker

  worker.remove_stock_context()
  gpus.prepare(repeatable=False)
  # SIGINT, too, for a shell's background jobs ignore it.
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.default_int_handler)
  try:
    with service.serve(config.host, config.port, config.device) as port:
      print(f"Worker: {config.host}:{port}", flush=True)
      signal.pause()
  except KeyboardInterrupt:
    return 0
  except (OSError, ValueError) as error:
    raise ConfigError(str(error)) from error
  return 0


if __name__ == "__main__":
  program.main("experiments.worker", WorkerConfig, SUMMARY, run)
