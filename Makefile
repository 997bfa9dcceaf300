# Everything a newcomer needs: Python 3.11+, a C++ compiler and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test slow cuda lint types sanitize clang site wheel lock clean

demo: $(READY)  ## the main job on the embedded data, a few minutes
	$(BIN)/gossamer demo

test: $(READY)  ## the quick tests, under 10 minutes on 2 cores
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n auto --dist worksteal

slow: $(READY)  ## the longer tests, two at a time; then those that want the machine for themselves
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "slow and not serial" -n 2 --dist worksteal
	$(BIN)/pytest -m "slow and serial"

cuda: $(READY)  ## the tests that need a CUDA device
	$(BIN)/pytest -m cuda

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(wildcard src/gossamer/kernels/*.*[hcp] tests/kernels/*.cpp)

types: $(READY)
	$(BIN)/mypy

# An extension built otherwise, in a folder of its own, for the tests that follow. Without `site`
# (-S) the editable installation stays out of the way.
BESIDE = $(INSTALL) --no-deps --no-build-isolation --upgrade --target build/$@/site \
    --config-settings=build-dir=build/$@/cmake
TRIED = PYTHONPATH="build/$@/site:$$(echo $(VENV)/lib/python3.*/site-packages)" \
    $(BIN)/python -S -m pytest --capture=sys -m "not slow and not no_sanitize"

sanitize: $(READY)  ## the runtime's tests under AddressSanitizer and UBSan
	env -u SKBUILD_CMAKE_DEFINE $(BESIDE) --config-settings=cmake.define.GOSSAMER_SANITIZE=ON .
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	$(TRIED) tests/runtime tests/kernels

clang: $(READY)  ## the kernels' tests, compiled by Clang
	CXX=clang++ $(BESIDE) .
	$(TRIED) tests/kernels/test_kernels.py

site: $(READY)  ## the documentation, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(READY)  ## the wheel, into dist/, tried where there is no compiler
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist
	$(BIN)/python tests/wheel.py dist/*.whl

lock:  ## the hashes of requirements.lock anew; needs uv
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv"; exit 2; }
	head -3 requirements.lock > build/lock
	sed -E '/^ |^#/d; s/ .*//' requirements.lock | uv pip compile - --quiet --no-deps --universal \
	    --python-version 3.11.5 --generate-hashes --no-annotate --no-header >> build/lock
	mv build/lock requirements.lock

# The lock files first (the first names all that it needs, so that nothing is resolved), then
# gossamer itself, compiled with the locked build tools. The rooms stand for their modules: an
# editable installation must hear of those that come, go or move.
$(READY): requirements.lock requirements-torch.lock pyproject.toml CMakeLists.txt $(wildcard src/gossamer/kernels/*) \
    $(wildcard src/gossamer/*/)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --no-deps --require-hashes -r requirements.lock
	$(INSTALL) -r requirements-torch.lock
	$(INSTALL) --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) build dist site
