# Everything a newcomer needs: Python 3.11+, a C++ compiler and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test slow lint types clean

demo: $(READY)  ## the main job on the embedded data, a few minutes
	$(BIN)/gossamer demo

test: $(READY)  ## the quick tests, under 10 minutes on 2 cores
	$(BIN)/pytest -m "not slow"

slow: $(READY)  ## the longer tests
	$(BIN)/pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# The lock file first, then gossamer itself, compiled with the locked build tools.
$(READY): requirements.lock pyproject.toml CMakeLists.txt $(wildcard src/gossamer/runtime/kernels/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) build dist
