# The ways in for people: `make` lists them. Everything lives in .venv (tools) and .cai (the demo's data).
#
# Variables: DATA=folder (conversations of your own instead of the sample), PORT=3000 (the UI's),
# ARGS="..." (passed on to cai or pytest), PYTHON=/path/to/python (else a fitting one is searched for),
# WORKERS=3 (processes that share the tests; 0 for none, to debug).

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo up test test-nocodb gpu-coverage lint format docs soak requirements requirements-check clean

VENV := .venv
GPU_VENV := .venv-gpu
BIN := $(VENV)/bin
PORT ?= 3000
DATA ?=
ARGS ?=
PYTHON ?=
# Half of a test's time is waiting for servers: on two cores, three processes.
WORKERS ?= 3
DATA_OPTION := $(if $(DATA),--data "$(DATA)")

help:  ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  make demo DATA=folder uses the conversations.parquet and messages.parquet of that folder."

demo: $(VENV)/.embedded  ## Install, materialise sample conversations end to end, print the reports
	@$(BIN)/cai demo $(DATA_OPTION) $(ARGS)

up: $(VENV)/.embedded  ## Run the Dagster UI over the same stack until Ctrl-C (PORT=3000)
	@$(BIN)/cai up --port $(PORT) $(DATA_OPTION) $(ARGS)

# Whole files, as tests of a file share servers (conftest.py tells more); in their order, as the long ones (e2e)
# come first.
PARALLEL = $(if $(filter-out 0,$(WORKERS)),-n $(WORKERS) --dist loadfile --no-loadscope-reorder)

test: $(VENV)/.dev  ## Run the tests (ARGS="-k name" to choose)
	$(BIN)/pytest -m "not soak and not nocodb" $(PARALLEL) $(ARGS)

soak: $(VENV)/.dev  ## Run the long trials
	$(BIN)/pytest -m soak $(ARGS)

test-nocodb: $(VENV)/.dev  ## Run the trials on a real NocoDB (needs npm, PostgreSQL and ../shared; 1.4 GB the first time)
	$(BIN)/pytest -m nocodb $(ARGS)

gpu-coverage: $(GPU_VENV)/.made  ## Ask cudf-polars, without a GPU, what it would refuse of the models (480 MB the first time)
	$(GPU_VENV)/bin/python -m cai_assets.engines.gpu_coverage

lint: $(VENV)/.dev requirements-check  ## Check style, types, import rules, SQL and requirements.txt
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint dbt_like_sql cai_assets/resources
	$(BIN)/python -m cai_assets.engines.lint

format: $(VENV)/.dev  ## Format Python and SQL
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/sqlfluff fix --quiet dbt_like_sql cai_assets/resources

docs: $(VENV)/.dev  ## Write docs/metrics.md and docs/data_dictionary.md from the declarations
	$(BIN)/python docs/write.py

# Without index addresses and hashes: which index a machine uses is that machine's business. With what production
# adds, as the image takes its versions from here.
COMPILE = $(BIN)/uv pip compile pyproject.toml --extra postgres --extra kubernetes --quiet --universal --python-version 3.11 \
	--no-emit-index-url --custom-compile-command "make requirements"

requirements: $(VENV)/.dev  ## Write requirements.txt from pyproject.toml, keeping versions that still fit
	$(COMPILE) --output-file requirements.txt

requirements-check: $(VENV)/.dev
	@cp requirements.txt $(VENV)/requirements.txt
	@$(COMPILE) --output-file $(VENV)/requirements.txt
	@diff -u requirements.txt $(VENV)/requirements.txt \
	  || { echo "requirements.txt is not in step with pyproject.toml: run \`make requirements\`"; exit 1; }

clean:  ## Remove caches, build results and the demo's data (.venv and .cai/own stay)
	@for state in .cai/*/stack.json; do \
	  if [ -e "$$state" ]; then \
	    echo "a stack still runs over $${state%/stack.json}: stop it first (or remove $$state if it does not)"; \
	    exit 1; \
	  fi; \
	done
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache test-artefacts
	if [ -d .cai ]; then find .cai -mindepth 1 -maxdepth 1 ! -name own -exec rm -rf {} +; fi
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# -- the virtual environment: made once, installed into again only when what is declared changes

# A name on the PATH is not yet a Python: it may be a launcher without one behind it, or too old. Wheels of the
# embedded database exist for 3.11 to 3.13.
$(VENV)/.made:
	@set -e; \
	fits='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; \
	if [ -x $(BIN)/python ] && $(BIN)/python -c "$$fits" 2>/dev/null; then touch $@; exit 0; fi; \
	for name in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3 python); do \
	  if "$$name" -c "$$fits" >/dev/null 2>&1; then python="$$name"; break; fi; \
	done; \
	if [ -z "$$python" ] && command -v uv >/dev/null; then \
	  echo "No Python 3.11, 3.12 or 3.13 on the PATH; uv fetches one."; \
	  uv venv --quiet --seed --clear --python 3.12 $(VENV); touch $@; exit 0; \
	fi; \
	if [ -z "$$python" ]; then \
	  echo "No Python 3.11, 3.12 or 3.13 was found$(if $(PYTHON), at $(PYTHON))." >&2; \
	  echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.12)," >&2; \
	  echo "or say where it is: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3.12" >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version)."; \
	if ! "$$python" -m venv --clear $(VENV) >$(VENV).log 2>&1; then \
	  cat $(VENV).log >&2; rm -rf $(VENV) $(VENV).log; \
	  echo "This Python cannot make a virtual environment: its venv module is missing or incomplete." >&2; \
	  echo "Debian, Ubuntu: apt install python3-venv. Or choose another: make demo PYTHON=/path/to/python3.12" >&2; \
	  exit 1; \
	fi; \
	rm -f $(VENV).log; touch $@

# uv installs the same wheels in a fraction of pip's time (measured: 6 s instead of 42 s); pip takes over where
# uv cannot be had or does not know the index that pip is configured for.
install = @set -e; \
	echo "Installing; the first time this takes a minute or two."; \
	uv=uv; \
	if ! uv --version >/dev/null 2>&1; then \
	  uv=$(BIN)/uv; $(BIN)/python -m pip install --quiet --disable-pip-version-check uv || true; \
	fi; \
	if ! "$$uv" pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[$(1)]' 2>$(VENV)/uv.log; then \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(1)]'; \
	fi

# What `make test` installs holds all of what `make demo` needs.
DEV_IS_CURRENT = $(shell test $(VENV)/.dev -nt pyproject.toml && test $(VENV)/.dev -nt setup.cfg && echo yes)

$(VENV)/.embedded: $(VENV)/.made pyproject.toml setup.cfg
	$(if $(DEV_IS_CURRENT),,$(call install,embedded))
	@touch $@

# cudf-polars wants an older Polars than the rest: an environment of its own, which sees the other one behind it.
$(GPU_VENV)/.made: $(VENV)/.dev cai_assets_tests/gpu_coverage.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(GPU_VENV)
	$(BIN)/uv pip install --quiet --no-deps --python $(GPU_VENV)/bin/python -r cai_assets_tests/gpu_coverage.txt
	@site="import sysconfig; print(sysconfig.get_path('purelib'))"; \
	  $(BIN)/python -c "$$site" > "$$($(GPU_VENV)/bin/python -c "$$site")/behind.pth"
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml setup.cfg
	$(call install,dev)
	@touch $@
