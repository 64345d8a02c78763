# Everything a fresh machine needs is made here; see README.md for the two commands that matter.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIN    := build/pin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
# How long `make chaos` goes on, in seconds: make chaos SECONDS=3600
SECONDS ?= 300
# How long `make fuzz` goes on, in hours: make fuzz HOURS=8
HOURS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install install-dev serve test test-long check format fuzz bench chaos requirements wheel \
        vendor clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Dragoman needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 serve")'
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt requirements-build.txt pyproject.toml | $(BIN)/python
	@echo "Installing what Dragoman stands on (first time only, about a minute)"
	@$(PIP) install --require-hashes -r requirements-build.txt -r requirements.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "Installing the developer's tools"
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

install: $(VENV)/.installed ## make .venv with .venv/bin/dragoman
install-dev: $(VENV)/.installed-dev

serve: install ## start the server on 127.0.0.1:8000 with a database in ./data
	@exec $(BIN)/dragoman serve

test: install-dev ## the suite (at most 10 minutes on two cores)
	$(BIN)/pytest -q -n 2 --dist loadgroup -m "not long"

test-long: install-dev ## fuzzing, chaos, real browsers and clients (at most 30 minutes)
	$(BIN)/pytest -q -n 2 --dist loadgroup -m long

chaos: install-dev ## kill servers at random under load for SECONDS (300), on both databases
	DRAGOMAN_TEST_CHAOS_SECONDS=$(SECONDS) $(BIN)/pytest -q -s -m long --timeout 0 tests/chaos

fuzz: install-dev ## compare compiled answers with graphql-core's for HOURS (1), on random documents
	$(BIN)/python tests/compiler/fuzz.py --hours $(HOURS)

bench: install-dev ## measure this machine beside its peers; writes docs/performance.md (a quarter of an hour)
	$(BIN)/python -m benchmarks

check: install-dev ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install-dev ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: install ## build dist/dragoman-*.whl
	$(BIN)/python -m hatchling build -t wheel

COMPILE = $(PIN)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
          --generate-hashes --no-annotate --no-header --no-emit-index-url --no-strip-extras

requirements: ## pin the newest allowed versions again, with hashes and without addresses
	$(PYTHON) -m venv $(PIN)
	$(PIN)/bin/python -m pip --quiet install uv
	$(COMPILE) pyproject.toml -o requirements.txt
	$(COMPILE) pyproject.toml --extra postgres --extra redis -o requirements-extras.txt
	$(COMPILE) pyproject.toml --group dev -o requirements-dev.txt
	echo 'hatchling>=1.27' | $(COMPILE) - -o requirements-build.txt
	rm -rf $(PIN)

vendor: ## fetch the query editor's files again and check them (needs npm)
	deploy/vendor_assets.sh

clean: ## remove what was made here, except the data folder
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	       .import_linter_cache
