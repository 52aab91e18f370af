.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# GPU=1 installs the default build of torch, which brings CUDA; without it the small CPU build is tried first.
GPU ?=
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

# Container images often set it; each process would then compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run up down test test-fast soak screenshot check lint docs bench clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed ## install genebench and its dependencies into .venv

# pip and the build backend write to $(LOG), which is printed only when pip fails.
LOG := $(VENV)/setup.log
PIP_INSTALL := $(BIN)/python -m pip install --quiet

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "genebench needs Python 3.11, 3.12 or 3.13; choose one: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@echo "installing genebench and its dependencies into $(VENV) (a few minutes; log: $(LOG))"
	@$(PIP_INSTALL) --upgrade pip > $(LOG) 2>&1 || { cat $(LOG); exit 1; }
ifeq ($(GPU),)
	@$(PIP_INSTALL) --no-deps --index-url $(TORCH_CPU_INDEX) --timeout 5 --retries 0 $(TORCH) >> $(LOG) 2>&1 \
	  || $(PIP_INSTALL) --no-deps $(TORCH) >> $(LOG) 2>&1 || { cat $(LOG); exit 1; }
endif
	@$(PIP_INSTALL) --constraint constraints.txt --editable '.[dev]' >> $(LOG) 2>&1 || { cat $(LOG); exit 1; }
	@touch $@

run: setup ## run the benchmark on the data that ship with genebench; print the leaderboard
	$(BIN)/genebench benchmark

up: setup ## start a Prefect server with its UI, deployments and workers; print its address
	$(BIN)/genebench up

down: setup ## stop the server and the workers that `make up` started
	$(BIN)/genebench down

PYTEST := $(BIN)/python -m pytest

# Many tests wait for a server or another process, so three workers keep two cores busy.
test: setup ## run the tests
	$(PYTEST) -n 3 -m "not soak"

# All of tests/flows needs Prefect or is slow; each worker would import it first.
test-fast: setup ## run the quick tests that need neither Prefect nor a browser
	$(PYTEST) -n 2 -m "not soak and not slow and not prefect and not browser" --ignore tests/flows

# First the tests that may need most of the memory, one by one; then those that kill processes, and one table of all faults.
soak: setup ## run the long tests: kills, real data, large simulations
	@status=0; \
	$(PYTEST) -m soak --ignore tests/faults --ignore tests/flows/test_kill.py || status=1; \
	$(PYTEST) -n 3 -m soak tests/faults tests/flows/test_kill.py || status=1; \
	exit $$status

check: setup ## check formatting, lint rules, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint: setup ## format the code and apply automatic lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

screenshot: setup ## take the picture of the report page that README shows (needs chromium and `make run`)
	$(BIN)/python docs/screenshot.py

docs: setup ## build the documentation site in build/site
	$(BIN)/python docs/build_site.py

bench: setup ## run the benchmarks against scikit-learn; write benchmarks/results.json
	$(BIN)/python -m benchmarks

clean: ## delete the environment, the lake, the report and all caches
	rm -rf $(VENV) lake report .prefect .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache test-output
