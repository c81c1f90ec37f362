"""A context that runs computations in this process."""

import pytest

from tff_attacks.runtime import in_process


@pytest.fixture(scope="module")
def context():
  return in_process.InProcessContext()
