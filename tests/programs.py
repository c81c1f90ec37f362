"""The project's programs, as a user runs them."""

import subprocess
import sys


def command(name, *arguments):
  return [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)]


def run(name, *arguments, **options):
  return subprocess.run(
    command(name, *arguments), capture_output=True, text=True, timeout=500, **options
  )
