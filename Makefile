# `make help` lists the targets; it reads the ## comments below.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# Each stamp says which lock file the environment was last filled from: without a change there is nothing to do.
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve test coverage check audit format bench fuzz screenshots lock clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(RUNTIME) ## Start the service; the first time, set everything up
	@$(BIN)/segment-lotus init
	@$(BIN)/segment-lotus migrate
	@exec $(BIN)/segment-lotus serve --with-worker

# Each processor runs a part, with a PostgreSQL of its own; who is done first takes over from the other.
test: $(DEV) ## Run the tests, on SQLite and PostgreSQL (ARGS="-k signature" runs some)
	@$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal $(ARGS)

coverage: $(DEV) ## Run the tests and tell which lines and branches they miss
	@$(BIN)/python -m coverage run -m pytest $(ARGS)
	@$(BIN)/python -m coverage report

check: $(DEV) ## Lint, format, types, and who imports whom
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "Run 'make format'."; exit 1; }
	@$(BIN)/mypy --no-error-summary app tests tools $(wildcard benchmarks/*.py)
	@$(BIN)/lint-imports --no-logo
	@echo "ruff, mypy and import-linter have nothing to say."

audit: ## Ask a vulnerability database about the locked packages; it reports, and never fails
	@$(PYTHON) -m tools.audit

format: $(DEV) ## Format the code, and fix what ruff can fix
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format

bench: $(DEV) ## Measure ingestion against the bare framework (a few minutes; quicker lines with ARGS)
	@$(BIN)/python benchmarks/ingest.py $(ARGS)

fuzz: $(DEV) ## Send a million hostile bodies, and look at all that is stored (an hour or two; ARGS="--seed 7 --bodies 100000")
	@$(BIN)/python -m tools.fuzz $(ARGS)

screenshots: $(DEV) ## Take the pictures of the pages anew (ARGS="--all var/screenshots": every page, in every way)
	@$(BIN)/python -m tools.screenshots $(ARGS)

lock: $(DEV) ## Write the lock files anew from pyproject.toml, with the newest releases
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "Lock with the oldest Python there is support for: make clean, then make lock PYTHON=python3.11"; exit 1; }
	@echo "Locking (about a minute)"
	@$(COMPILE) --output-file=requirements.txt pyproject.toml
	@$(COMPILE) --extra=dev --allow-unsafe --constraint=requirements.txt --output-file=requirements-dev.txt pyproject.toml

clean: ## Remove the environment and the caches; never .env and var/
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage build *.egg-info
	@find app tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Extra indexes and wheel folders of this machine must not leak into files that every machine installs from, so pip's own
# configuration is left out. `--allow-unsafe` pins pip and setuptools too: pip-tools needs both, and hashes are all or none.
COMPILE = env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null CUSTOM_COMPILE_COMMAND="make lock" \
	$(BIN)/python -m piptools compile --quiet --upgrade --generate-hashes --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "This needs Python 3.11 or newer, and '$(PYTHON)' is not: name one with 'make PYTHON=python3.12 ...'."; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { echo "On Debian and Ubuntu, 'apt-get install python3-venv' first."; exit 1; }

$(RUNTIME): requirements.txt pyproject.toml | $(BIN)/pip
	@echo "Setting up $(VENV) (once, about half a minute)"
	@$(PIP) install --require-hashes --requirement requirements.txt
	@$(PIP) install --no-deps --editable .
	@touch $@

# The second lock holds all of the first.
$(DEV): requirements-dev.txt requirements.txt pyproject.toml | $(BIN)/pip
	@echo "Setting up $(VENV) with the tools for development (once, about half a minute)"
	@$(PIP) install --require-hashes --requirement requirements-dev.txt
	@$(PIP) install --no-deps --editable .
	@touch $(RUNTIME) $@
