# Everything a fresh machine needs is made here; see README.md for the two commands that matter.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help install install-dev serve test test-long check format bench chaos requirements clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Dragoman needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt requirements-build.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements-build.txt -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

install: $(VENV)/.installed ## make .venv with .venv/bin/dragoman
install-dev: $(VENV)/.installed-dev

serve: install ## start the server on 127.0.0.1:8000 with a database in ./data
	@exec $(BIN)/dragoman serve

test: install-dev ## the suite (at most 10 minutes on two cores)
	$(BIN)/pytest -q -n 2 --dist loadgroup -m "not long"

test-long: install-dev ## fuzzing, chaos, real browsers and clients (at most 30 minutes)
	$(BIN)/pytest -q -m long

check: install-dev ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install-dev ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
