# Everything runs in .venv, which `make setup` builds and every other target brings up to date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done

N ?= 500
SEED ?= 0

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all fuzz mutate lint format docs errors bench wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## build .venv with the pinned packages

demo: $(STAMP) ## train, compile, prove, simulate and verify a digits CNN
	@$(BIN)/broadaxe demo

test: $(STAMP) ## the tests, without the slow ones
	@$(BIN)/python -m pytest -q -n 2 -m "not slow"

test-all: $(STAMP) ## all tests
	@$(BIN)/python -m pytest -q -n 2

fuzz: $(STAMP) ## random networks against independent judges: make fuzz N=500 SEED=7
	@$(BIN)/python -m tests.fuzz --count $(N) --seed $(SEED)

mutate: $(STAMP) ## damaged model files: a build or one line, nothing else: make mutate N=500 SEED=7
	@$(BIN)/python -m tests.fuzz --mutate --count $(N) --seed $(SEED)

lint: $(STAMP) ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## rewrite the Python files as lint wants them
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

docs: $(STAMP) ## the generated parts of docs/: commands, settings, fields of the report
	@$(BIN)/python docs/generate.py

errors: $(STAMP) ## docs/errors.md from the catalogue of messages, tests/messages/
	@$(BIN)/python -m tests.messages

bench: $(STAMP) ## executors and C simulation against their peers; benchmarks/networks.py takes longer
	@for name in executors csim; do echo "== $$name"; $(BIN)/python "benchmarks/$$name.py" || exit 1; done

wheel: $(STAMP) ## dist/broadaxe-*.whl
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . | tail -n 1

clean: ## remove what was built; .venv stays
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find compiler tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "setup: $(PYTHON) is missing or older than 3.10; install Python 3.10 or newer, or make PYTHON=/path/to/python3"; exit 1; }
	@command -v g++ >/dev/null || { echo "setup: g++ is missing; on Debian or Ubuntu: apt-get install g++"; exit 1; }
	@if [ ! -x $(BIN)/python ]; then \
	  echo "setup: creating $(VENV)"; \
	  $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "setup: $(PYTHON) cannot create environments; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }; \
	fi
	@echo "setup: installing the packages of constraints.txt (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --quiet 'pip>=23'
	@$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt --editable '.[dev,demo,exact]'
	@touch $@
	@echo "setup: done"
