import os
import pathlib

# Several processes would fight over a GPU, and numbers are compared to the last digits.
# TensorFlow looks for GPUs when it is imported.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import hypothesis
import pytest

import experiments  # noqa: F401  # Settles how TensorFlow computes before it is imported.
from tff_attacks.runtime import in_process, worker

# TFF's own default context would start a worker that nobody ends.
worker.remove_stock_context()

# A failure repeats, as it does in CI by default.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile("same")

SHARED_DATA = pathlib.Path(__file__).parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> str:
  """Folder with mnist.npz and fashion_mnist.npz; CI must have it."""
  if not all((SHARED_DATA / f"{name}.npz").exists() for name in ("mnist", "fashion_mnist")):
    reason = f"no MNIST and Fashion-MNIST at {SHARED_DATA}"
    pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
  return str(SHARED_DATA)


@pytest.fixture(
  scope="module", params=["in_process", pytest.param("worker", marks=pytest.mark.slow)]
)
def tff_runtime(request):
  """Runs TFF computations in each runtime while the module's tests last."""
  start = {"in_process": in_process.in_process, "worker": worker.worker}[request.param]
  with start():
    yield request.param


@pytest.fixture(scope="module")
def tff_worker():
  """Runs TFF computations in a worker while the module's tests last."""
  with worker.worker() as process:
    yield process
