# On a new machine two commands are enough: `make train` and `make test`.
# They make the virtual environment .venv once, and update it when pyproject.toml changes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Bytecode is left to the first import: to make that of all packages takes longer than to install them.
# Where PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would compile torch anew.
export PYTHONDONTWRITEBYTECODE :=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

# The tokenizer's kernels are compiled once for this machine; without it, the first long text does it.
KERNELS := $(BIN)/python -m fastlm.tokenizer compile

.PHONY: train test soak bench lint docs clean

train: $(VENV)/.installed
	$(BIN)/python -m fastlm.train --compile --bf16

# Tests run side by side, the longest files first (conftest.py); `pytest` alone runs one test after another.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 5 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

# The long tests, with what they measured: more than an hour on two cores.
soak: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -rP --durations=0 -o python_files='soak_*.py' tests

bench: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --benchmark-only

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Pages of the API from the docstrings: out/api/index.html. pdoc imports the kernels, which needs no
# GPU if they are interpreted.
docs: $(VENV)/.installed-dev
	TRITON_INTERPRET=1 $(BIN)/python -m pdoc --docformat google --no-show-source -o out/api fastlm kernels

clean:
	rm -rf $(VENV)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=... (this is %d.%d)" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	-$(PIP) --upgrade pip  # a newer pip installs the same in two thirds of the time

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	$(KERNELS)
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[dev]'
	$(KERNELS)
	touch $@ $(VENV)/.installed
