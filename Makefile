# Each target sets up what it needs: a virtual environment in .venv, the package with its compiled kernel,
# and what the target runs. The second time there is nothing to do.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
KERNEL = $(wildcard onnxpuma/mpc/ring/*.cpp onnxpuma/mpc/ring/*.hpp)
PACKAGE = pyproject.toml setup.py $(KERNEL)

.PHONY: demo test lint bench clean

demo: $(VENV)/.package
	$(BIN)/onnxpuma demo

# Servers that tests start import cached byte code, whatever the environment says: else each compiles the package.
test: $(VENV)/.test
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.package
	$(BIN)/python benchmarks/kernels.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "onnxpuma needs Python 3.10 or newer; this is $$($(PYTHON) --version 2>&1): make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python's venv is missing. On Debian: apt-get install python3-venv"; exit 1; }
	@command -v c++ >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 || \
	  echo "No C++ compiler: products will run in numpy, many times slower. On Debian: apt-get install g++"
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || \
	  echo "Python.h is missing: products will run in numpy, many times slower. On Debian: apt-get install python3-dev"
	@echo "Setting up $(VENV); the first time this takes a minute or two."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.package: $(BIN)/python $(PACKAGE)
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.package
	@$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	@$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	@touch $@

clean:
	rm -rf $(VENV) build
