"""The project's programs, as a user runs them."""

import contextlib
import subprocess
import sys


def command(name, *arguments):
  return [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)]


def run(name, *arguments, **options):
  return subprocess.run(
    command(name, *arguments), capture_output=True, text=True, timeout=500, **options
  )


@contextlib.contextmanager
def two_workers():
  """The processes of two workers on this host, and their addresses."""
  workers = [
    subprocess.Popen(command("worker", "port=0"), stdout=subprocess.PIPE, text=True)
    for _ in range(2)
  ]
  try:
    yield workers, [worker.stdout.readline().split()[-1] for worker in workers]
  finally:
    for worker in workers:
      worker.kill()
      worker.communicate()
