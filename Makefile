# Two commands do everything on a fresh machine: `make train` and `make test`.
# The environment .venv is made and filled once; it is refilled when pyproject.toml changes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Bytecode is left to the first import: to make that of all packages takes longer than to install them.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: train test soak bench lint docs clean

train: $(VENV)/.installed
	$(BIN)/python -m fastlm.train --compile --bf16

# Side by side on up to four cores; `pytest` alone takes one test after another. The longest files come first
# (conftest.py).
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 5 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

# Proofs too long for every day, and what they measured: more than an hour on two cores.
soak: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -rP --durations=0 -o python_files='soak_*.py' tests

bench: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --benchmark-only

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What the docstrings say, as pages for a browser: out/api/index.html. On a CPU, as kernels are imported.
docs: $(VENV)/.installed-dev
	TRITON_INTERPRET=1 $(BIN)/python -m pdoc --docformat google --no-show-source -o out/api fastlm kernels

clean:
	rm -rf $(VENV)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=... (this is %d.%d)" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.installed
