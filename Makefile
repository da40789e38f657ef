# make demo: the quickstart study, which exports its pick and what that is compared with; their measurement, the report,
# and what the pick gains over the dense model in int8.
# make check: format, lint, types, the laws of the structure and the fast tests, in less than a minute.
# make test: make check, then the other tests.
# make test-native: the tests that need sanitizers, valgrind, an emulator, a browser, a notebook's kernel, or the compilers of
# ExecuTorch, Core ML and OpenVINO; each skip names what is missing.
# make test-slow: the tests that take minutes each.
# make test-matrix: the fast tests on every installed Python from 3.10 to 3.13, and with the lowest allowed dependencies.
# make gpu-proof: prove on one GPU, in at most 8 minutes, that training on CUDA is right and fast; docs/gpu.md.
# make wheels: the wheels of all systems and the source archive, in dist/; docs/releasing.md.
# make web: build the engine for browsers, which the package ships; needs CC=clang-19 and wasi-libc, docs/engine-elsewhere.md.
# make docs: the documentation as a site in build/docs, with search and the API reference; a broken link is an error.
# make mutants: change one operator of the modules that decide at a time; a test must notice 95 % of the changes.
# Each makes its own environment in .venv, with the python3 on the PATH (or PYTHON=...).

PYTHON ?= python3
VENV := .venv
ENGINE := $(wildcard lxcompress/engine/source/* lxcompress/engine/build.py)
BIN := $(VENV)/bin
RUN := runs/quickstart
FAST := $(addprefix tests/,$(addsuffix .py, \
	test_house test_order test_bitmask test_extensions test_output test_recipe test_settings test_text \
	test_unreadable test_writing $(addprefix pruning/test_,choose criteria mask overlap published schedule)))
NATIVE := $(addprefix tests/,engine web runtimes/test_torch.py life/test_browser.py test_api.py cli/test_bench_adb.py \
	$(addprefix export/test_,added_format.py coreml.py executorch.py openvino.py))
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync)
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo check check-style check-types check-fast test test-native test-slow test-matrix gpu-proof wheels web android docs mutants clean

demo: $(VENV)/installed
	$(BIN)/lxcompress study recipes/quickstart.yaml --out $(RUN)
	$(BIN)/lxcompress bench $(RUN)/artifacts/*
	$(BIN)/lxcompress report $(RUN)
	$(BIN)/lxcompress pick $(RUN)
	@echo "open $(CURDIR)/$(RUN)/report.html in a browser"

check: $(VENV)/tested
	@$(MAKE) --no-print-directory --keep-going -j 2 $(SYNC) check-style check-types check-fast

check-style: $(VENV)/tested
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .

check-types: $(VENV)/tested
	$(BIN)/python -m mypy

check-fast: $(VENV)/tested $(FAST)
	$(PYTEST) $(FAST)

test: check
	$(PYTEST) --no-loadscope-reorder $(FAST:%=--ignore=%)

test-native: $(VENV)/tested
	$(BIN)/python -m pytest -m native -rs $(NATIVE)

test-slow: $(VENV)/tested
	$(PYTEST) -m slow --no-loadscope-reorder

test-matrix: $(VENV)/tested
	$(BIN)/python -m pip install --quiet --group matrix
	$(BIN)/python -m release.matrix $(FAST)

gpu-proof: $(VENV)/installed
	$(BIN)/python bench/gpu_proof.py --save

wheels: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group wheels
	$(BIN)/python -m release.wheels

web:
	for build in engine engine-pairs engine-dot engine-threads engine-pairs-threads engine-dot-threads; do \
		sh lxcompress/engine/web/build.sh lxcompress/engine/web/$$build.wasm || exit 1; done

docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

android:  # the program that `bench --target adb` pushes to a phone
	CC="$(BIN)/python -m ziglang cc -target aarch64-linux-musl" $(BIN)/python -m lxcompress.engine.build \
		--program lxcompress/engine/android/bench.c --out lxcompress/engine/android/engine-bench

mutants: $(VENV)/tested
	$(BIN)/python -m tests.mutants

$(VENV)/made:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else "lxcompress needs Python 3.10 to 3.13, and $(PYTHON) is %d.%d: give another with make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/installed: $(VENV)/made pyproject.toml $(ENGINE)
	$(BIN)/python -m pip install --editable .
	@touch $@

$(VENV)/tested: $(VENV)/made pyproject.toml $(ENGINE)
	$(BIN)/python -m pip install --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV)
