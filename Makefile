# make help says what there is. Needs make and Python 3.11 or newer; all else goes into .venv.

PYTHON ?= $(shell command -v python3 || command -v python)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Four, for two processors: those with real processes wait most of the time (tests/conftest.py).
SPREAD := -q -rs -n 3 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help setup test test-all check demo clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Make .venv with everything in it

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no python3 found: install Python 3.11 or newer" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is $$("$(PYTHON)" -V 2>&1), Python 3.11 or newer is needed:" \
			"make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV) || { \
		echo "make: cannot make $(VENV): is the venv module installed (python3-venv)?" >&2; \
		rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev]'
	@touch $@

check: $(INSTALLED) ## Formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check ## All checks and all tests
	$(BIN)/pytest $(SPREAD)

test-all: check ## The same with what takes long, or needs packages (installed if root)
	@sh .ci/packages all
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[all]' || \
		echo "not installed: the extra 'all'; the tests that need it are skipped" >&2
	$(BIN)/pytest $(SPREAD) -m ''

demo: $(INSTALLED) ## A cluster, the standard library's sources as records, a killed leader, a proof
	@$(BIN)/python -m corfu.tools.demo

clean: ## Remove .venv and everything else that was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
