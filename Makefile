# make demo   the whole pipeline on this machine, about a quarter of an hour on two cores with its set-up
# make test   lint, types, import rules, tests
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup test lint demo benchmark clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-$(shell cksum < constraints.txt | tr ' ' '-')
TEST_STAMP := $(VENV)/installed-for-tests-$(shell cksum < constraints-test.txt | tr ' ' '-')
PROJECT_STAMP := $(VENV)/installed-project-$(shell (cat pyproject.toml; pwd) | cksum | tr ' ' '-')
CONFIG ?= pipelines/configs/demo.toml
ARGS ?=

help:
	@echo "make setup      create $(VENV) with the pinned dependencies and the project (the other targets do it when needed)"
	@echo "make demo       run the whole pipeline; CONFIG=my.toml ARGS='key=value ...' run another"
	@echo "make test       ruff, mypy, import rules, pytest"
	@echo "make lint       the same without pytest"
	@echo "make benchmark  measure the figures of tests/benchmarks and keep them (after make demo; half an hour)"
	@echo "make clean      remove $(VENV) and caches; runs/ stays"

setup: $(PROJECT_STAMP)

# One venv for each state of the pins: nothing to do while they are unchanged.
$(STAMP):
	@# Not the one of the venv that is about to go, should that be active.
	@PATH="$$(echo "$$PATH" | tr ':' '\n' | grep -vxF '$(abspath $(VENV))/bin' | paste -sd ':')"; python=""; \
	for name in python3.11 python3.12 python3.13 python3; do \
	  if command -v $$name >/dev/null && $$name -c 'import sys, venv, ensurepip; assert (3, 11) <= sys.version_info < (3, 14)' 2>/dev/null; \
	  then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "error: no Python 3.11, 3.12 or 3.13 with the venv module was found: install one (Debian: apt install python3 python3-venv)" >&2; \
	  exit 1; \
	fi; \
	echo "setting up $(VENV) with $$($$python --version); this takes a few minutes once"; \
	rm -rf $(VENV); \
	$$python -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off -r constraints.txt
	@$(BIN)/python -m pip check --disable-pip-version-check
	@touch $@

# The project itself, as a link to this folder: with the setuptools of the pins, so that nothing else is downloaded.
$(PROJECT_STAMP): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off \
	  --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/installed-project-*
	@touch $@

$(TEST_STAMP): $(PROJECT_STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off -r constraints-test.txt
	@touch $@

lint: $(PROJECT_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/python tests/house.py

test: lint $(TEST_STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

demo: $(PROJECT_STAMP)
	@$(BIN)/python pipelines/dag.py $(CONFIG) $(ARGS)

benchmark: $(TEST_STAMP)
	@$(BIN)/python tests/benchmarks/pipeline.py
	@$(BIN)/python tests/benchmarks/cpu.py
	@$(BIN)/python -m tests.benchmarks.states

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .import_linter_cache build dist *.egg-info
