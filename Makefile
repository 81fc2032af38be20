PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -W error -n 2 --dist worksteal
# The lock holds versions that need Python 3.11; an older one takes the newest that it can run.
LOCKED := $(shell $(PYTHON) -c 'import sys; print("-c requirements.lock" * (sys.version_info >= (3, 11)))' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help demo test test-gpu check nightly needs bench calibrate lock

help:  ## print this list
	@echo "Quire: mixed-precision number formats for PyTorch. Each target sets up $(VENV) first, once."
	@echo
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/  make \1|\2/p' Makefile | while IFS='|' read -r target text; do \
	  printf '%-18s%s\n' "$$target" "$$text"; done
	@echo
	@echo "PYTHON=python3.12 make test  takes another interpreter than python3."

demo: $(READY)  ## train, search, report, pack; then an accelerator (3 minutes)
	$(BIN)/python examples/demo.py

test: $(READY)  ## run the tests that every change must pass
	$(TEST) -m "not nightly"

test-gpu:  ## run the tests that need a CUDA device, with this machine's torch and Triton
	PYTHONPATH=src $(PYTHON) -m pytest -m gpu -q tests/gpu \
	  tests/conformance/test_formats_cuda.py

check: $(READY)  ## lint, format, types and layers (under a minute)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

nightly: needs $(READY)  ## run every test, the slow ones too; lists first what this machine lacks
	$(TEST)

needs:
	@lacks=0; for need in chromium:chromium chromedriver:chromium-driver; do \
	  command -v "$${need%%:*}" >/dev/null || { lacks=1; \
	    echo "lacks $${need%%:*}: apt-get install -y $${need##*:}"; }; done; \
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || { \
	  lacks=1; echo "lacks postgres: apt-get install -y postgresql"; }; \
	[ -x "$${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ] || command -v nvcc >/dev/null || \
	  echo "lacks nvcc, so no CUDA source is compiled: install CUDA 12.5 or newer"; exit $$lacks

bench: $(READY)  ## run the benchmarks; each prints JSON
	@set -e; for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python "$$file"; done

calibrate: $(READY)  ## measure the library's cells again with Yosys, for the cost model
	$(BIN)/python -m quire.hardware.calibrate

lock: $(READY)  ## rewrite requirements.lock from the versions in .venv
	$(BIN)/pip freeze --exclude-editable | grep -vE '^(#|-e|quire )' | sed -E 's/\+[a-z0-9.]+$$//' > requirements.lock

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "$(PYTHON) is not Python 3.10 or newer: name one, as in PYTHON=python3.12 make test"; exit 1; }
	@echo "Setting up $(VENV): a few minutes, once"
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) cannot make a virtual environment: apt-get install -y python3-venv"; exit 1; }
	$(BIN)/python -m pip install $(LOCKED) -e '.[dev]'
	@touch $@
