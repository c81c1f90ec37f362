# `make crpa` runs the attack, `make test` the tests; both set up .venv first.

PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

# A file of tests per process, the heavy ones of the programs first; with one thread each, their
# TensorFlows do not fight for the cores.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations=60
test test-slow: export TF_NUM_INTRAOP_THREADS := 1

.PHONY: crpa test test-slow lint format lock

crpa: $(READY)
	$(BIN)/python -m experiments.crpa

test: $(READY) lint
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(PYTEST_ARGS)

test-slow: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m slow $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Everything is pinned, so pip resolves nothing (it could not: see the overrides).
$(READY): requirements.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	  { echo "error: Python 3.11 is needed, and '$(PYTHON)' is not it; try: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Needs uv. Run it after a change of setup.cfg.
lock:
	uv pip compile --quiet --python-version 3.11 --override requirements-overrides.txt \
	  --extra dev setup.cfg --output-file requirements.txt
