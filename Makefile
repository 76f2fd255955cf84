# The commands of this repository. Each sets up what it needs: Python >= 3.11, make and a package registry are enough.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# One process for each processor. One that the watchdog ends is replaced, but not again and again.
PARALLEL := --numprocesses=auto --maxprocesses=8 --dist=worksteal --max-worker-restart=3

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo tour report test check fmt bench pins clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Open the widget store, a shop and a payment service; kill either at any moment, and orders go on
	$(BIN)/python -m examples.widget_store

tour: $(READY) ## Play the widget store: payments, time limits, power cuts (DATABASE=postgresql://... instead of SQLite)
	$(BIN)/python -m examples.widget_store.tour $(if $(DATABASE),--database '$(DATABASE)')

report: $(READY) ## Play the live report: a workflow streams, another program follows it, both are killed and go on
	$(BIN)/python -m examples.live_report

test: $(READY) ## Run every test on SQLite and PostgreSQL (ARGS="-k send" narrows it down, ARGS=-n0 takes one process)
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

check: $(READY) ## Check format, lint, types and the walls between the layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(READY) ## Format the code and mend what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Measure steps per second, and promptness between processes, on SQLite and on a throw-away PostgreSQL
	$(BIN)/python -m bench.steps $(ARGS)
	$(BIN)/python -m bench.processes $(ARGS)
	$(BIN)/python -m bench.serialization

pins: $(BIN)/python ## Write requirements-dev.txt anew after a change of dependencies (UPGRADE=1: newest versions)
	@$(INSTALL) uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-package tidings --custom-compile-command 'make pins' $(if $(UPGRADE),--upgrade) \
		--quiet --output-file requirements-dev.txt

clean: ## Remove what make, Python and its tools have made
	rm -rf $(VENV) dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Exactly the pinned packages, then tidings itself, editable. Nothing is fetched for its build: hatchling is pinned too.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(READY): $(BIN)/python pyproject.toml requirements-dev.txt
	@echo 'Installing the pinned packages into $(VENV); this is done once.'
	@$(INSTALL) --require-hashes -r requirements-dev.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "tidings needs Python 3.11 or newer; '$(PYTHON)' is not. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
