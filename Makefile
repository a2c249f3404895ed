# Everything needs only Python 3.11 with venv and pip: `make quickstart` on a fresh machine is enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# torch goes in first and exactly pinned. Which build pip finds is pip's business: point PIP_FIND_LINKS or
# PIP_EXTRA_INDEX_URL at CPU wheels on a machine without a GPU, and CUDA's several gigabytes stay away.
TORCH := $(shell grep '^torch==' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow lint format clean

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(VENV)/.installed  ## Install, then run the whole job on this machine.
	$(BIN)/realcustom quickstart

test: $(VENV)/.installed-dev  ## Run the tests that take seconds.
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed-dev  ## Run the tests that take minutes.
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev  ## Check style, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy components deploy tools workflows

format: $(VENV)/.installed-dev  ## Rewrite the code in the project's format.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and caches; runs/ stays.
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(TORCH)
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "Installing (about four minutes the first time)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "Installing with development tools (about four minutes the first time)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@# timm asks for a torchvision that no CPU build of torch fits, and is tested against without it.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps timm
	@touch $@ $(VENV)/.installed
