# Two commands do everything on a fresh machine that has Python >= 3.11: `make demo` and `make test`.
# They build their own environment in .venv. `make demo PYTHON=python3.12 VENV=.venv312` chooses others.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2

# The plain name pulls gigabytes of CUDA libraries. This release exists as a CPU build, and pip prefers 2.13.0+cpu to
# 2.13.0 where it sees both: in a folder of wheels (PIP_FIND_LINKS) or PyTorch's CPU index (PIP_EXTRA_INDEX_URL).
# On a machine with a GPU: `make bench TORCH=torch`.
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check
# setuptools is in the environment, so that building, too, needs no network once everything is there.
EDITABLE := --no-build-isolation --editable
DEMO := runs/demo-$(shell date +%Y%m%d-%H%M%S)

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

# One thread for BLAS: as quick here as two, and other programs on the machine cannot stall it (two threads of BLAS wait
# for each other, twenty times longer if one of them has lost its core).
demo: $(VENV)/.demo  ## install, train a VAE on real MNIST digits, say where its pictures and its report are
	OPENBLAS_NUM_THREADS=1 $(BIN)/scratchgen train vae --preset tiny --data mnist-5k --out $(DEMO)
	$(BIN)/scratchgen evaluate $(DEMO)
	@printf '\nPictures:\n'; find $(DEMO) -name '*.png' | sort | sed 's/^/  /'
	@printf 'Report:\n  %s\n' $(DEMO)/report.json

test: lint  ## install, lint, check types, run the tests
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile --durations 15

test-slow: $(VENV)/.test  ## run the tests that take minutes each
	$(BIN)/python -m pytest -m slow --durations 0

lint: $(VENV)/.test  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.bench  ## run the benchmarks beside PyTorch and JAX
	$(BIN)/python -m benchmarks

clean:  ## remove builds and caches; .venv and runs stay
	rm -rf build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find scratchgen kernels tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp is touched last: a step that failed half-way is done again.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$(PYTHON) is older than Python 3.11, or missing: choose another with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): the first time takes some minutes."
	$(PIP_INSTALL) --upgrade pip 'setuptools>=77'
	touch $@

$(VENV)/.demo: $(VENV)/.created setup.py pyproject.toml
	$(PIP_INSTALL) $(EDITABLE) '.[data]'
	touch $@

$(VENV)/.test: $(VENV)/.created setup.py pyproject.toml
	$(PIP_INSTALL) '$(TORCH)'
	$(PIP_INSTALL) $(EDITABLE) '.[data,test]'
	touch $@

$(VENV)/.bench: $(VENV)/.created setup.py pyproject.toml
	$(PIP_INSTALL) '$(TORCH)'
	$(PIP_INSTALL) $(EDITABLE) '.[bench]'
	touch $@
