.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# GPU=1 installs the default build of torch, which brings CUDA; without it the small CPU build is tried first.
GPU ?=
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.PHONY: help setup run up down test check lint bench clean

help: ## show this help
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed ## make .venv with the genebench command in it

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "genebench needs Python 3.11, 3.12 or 3.13; name one with PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
ifeq ($(GPU),)
	$(BIN)/python -m pip install --quiet --no-deps --index-url $(TORCH_CPU_INDEX) --timeout 5 --retries 0 $(TORCH) \
	  || $(BIN)/python -m pip install --quiet --no-deps $(TORCH)
endif
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: setup ## run the benchmark on the facts that genebench carries, and print the leaderboard
	$(BIN)/genebench benchmark

up: setup ## start a Prefect server with its UI, deployments and workers; prints the address
	$(BIN)/genebench up

down: setup ## stop what `make up` started
	$(BIN)/genebench down

test: setup ## run all tests
	$(BIN)/python -m pytest

check: setup ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint: setup ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## measure, side by side with the alternatives; writes benchmarks/results.json
	$(BIN)/python -m benchmarks

clean: ## remove the environment, the lake and all caches
	rm -rf $(VENV) lake report .prefect .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache test-output
