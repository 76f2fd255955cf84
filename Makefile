# The commands of this repository. Each sets up what it needs: Python >= 3.11, make and a package registry are enough.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# The library that the benchmark measures beside ours has an environment of its own.
PEER   := bench/.peer
# So does what builds the documentation.
DOCS   := .docs

# Three processes for two processors (tests/conftest.py says why). One that the watchdog ends is replaced, but not again and again.
PARALLEL := --numprocesses=auto --maxprocesses=8 --dist=worksteal --max-worker-restart=3

# Of the tests for both stores and both faces a run plays half of the variants, another half for each seed; see
# tests/support/halves.py. With ALL=1 it plays all.
HALF := $(if $(ALL),,--half)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo tour report test mistakes stress matrix chaos simulate check docs docs-serve fmt bench bench-quick pins clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Open the widget store, a shop and a payment service; kill either at any moment, and orders go on
	$(BIN)/python -m examples.widget_store

tour: $(READY) ## Play the widget store: payments, time limits, power cuts (DATABASE=postgresql://... instead of SQLite)
	$(BIN)/python -m examples.widget_store.tour $(if $(DATABASE),--database '$(DATABASE)')

report: $(READY) ## Play the live report: a workflow streams, another program follows it, both are killed and go on
	$(BIN)/python -m examples.live_report

# A run starts hundreds of programs, which import the same modules. So Python keeps what it has compiled, whatever the
# environment says: compiling anew for each program is a tenth of all the work. `make clean` removes it.
test stress matrix: export PYTHONDONTWRITEBYTECODE :=

test: $(READY) ## Run the tests on SQLite and PostgreSQL, in random order (SEED=7 repeats one; ALL=1: every variant; ARGS="-k send")
	$(BIN)/python -m pytest $(PARALLEL) $(HALF) $(if $(SEED),--randomly-seed=$(SEED)) $(ARGS)

mistakes: $(READY) ## Make the mistakes of newcomers, and print what is said of them (STORE=postgresql, FACE=awaiting)
	$(BIN)/python -m tests.mistakes $(if $(STORE),--store $(STORE)) $(if $(FACE),--face $(FACE))

stress: $(READY) ## Run the tests again and again beside busy processes, in other orders (ROUNDS=10 SEED=7 ALL=1 ARGS="-k send")
	$(BIN)/python -m tests.stress $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED)) -- $(PARALLEL) $(HALF) $(ARGS)

matrix: $(READY) ## Run every test on each Python, PostgreSQL, SQLite and pooler that can be had (ROW=python-3.14, ARGS="-k send")
	$(BIN)/python -m tests.matrix $(addprefix --row ,$(ROW)) $(if $(ARGS),,--output docs/guarantees.md) \
		-- $(PARALLEL) $(if $(SEED),--randomly-seed=$(SEED)) $(ARGS)

chaos: $(READY) ## Kill, pause and cut off real processes, and check what all of them saw (MINUTES=20 SEED=7 DATABASE=postgresql://...)
	$(BIN)/python -m chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) \
		$(if $(DATABASE),--store postgresql --postgres '$(DATABASE)') $(ARGS)

simulate: $(READY) ## Play the engine on virtual time and a faulty store, a seed each (SEEDS=10000 FROM=0; SEED=7 shows one)
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000) --from $(or $(FROM),0) --jobs 2)

check: $(READY) docs ## Check format, lint, types and the walls between the layers, and build the documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY) $(DOCS)/.ready ## Build the documentation into .site; a link or reference that leads nowhere fails
	rm -rf .site .cache
	$(DOCS)/bin/zensical build --strict
	$(BIN)/python -m tests.docs.site .site

docs-serve: $(DOCS)/.ready ## Show the documentation while you write it, on http://localhost:8000 (ARGS="-a localhost:8080")
	$(DOCS)/bin/zensical serve $(ARGS)

fmt: $(READY) ## Format the code and mend what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) $(PEER)/.ready ## Measure beside dbos and bare drivers, half an hour; bench/results/latest.md (ARGS=--help)
	$(BIN)/python -m bench --output bench/results $(ARGS)

bench-quick: $(READY) $(PEER)/.ready ## The rows that have targets, once, in a few minutes; prints a table (ARGS=--help)
	$(BIN)/python -m bench --quick $(ARGS)

pins: $(BIN)/python ## Write the files of pinned requirements anew after a change of dependencies (UPGRADE=1: newest versions)
	@$(INSTALL) uv
	$(PINS) pyproject.toml --extra dev --no-emit-package tidings --output-file requirements-dev.txt
	$(PINS) requirements-docs.in --output-file requirements-docs.txt
	$(PINS) bench/requirements-peer.in --output-file bench/requirements-peer.txt
	$(PINS) --no-deps tests/matrix/requirements-postgres.in --output-file tests/matrix/requirements-postgres.txt

clean: ## Remove what make, Python and its tools have made
	rm -rf $(VENV) $(PEER) $(DOCS) .site .cache .matrix .stress dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

PINS := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make pins' \
	$(if $(UPGRADE),--upgrade) --quiet

$(PEER)/.ready: bench/requirements-peer.txt
	@echo 'Installing the library to compare with into $(PEER); this is done once.'
	@$(PYTHON) -m venv $(PEER)
	@$(PEER)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(DOCS)/.ready: requirements-docs.txt
	@echo 'Installing what builds the documentation into $(DOCS); this is done once.'
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

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
