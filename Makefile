# make setup   install into .venv (does nothing the second time)
# make demo    fine-tune SmolLM2-135M on the TREC questions and report
# make test    lint, types and the fast tests of every module
# make test-slow   the other tests: longer training, several processes, kills, browsers, wheels, PostgreSQL
# make stress  the whole demo, and what repeats those tests by hundreds and thousands; not in CI
# make coverage    the fast tests, and the share of lines that they run
# make bench-train DATA=FOLDER   training next to TRL, LLaMA-Factory and LitGPT; writes docs/benchmarks.md
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test test-slow stress coverage lint style types unit bench bench-train lock clean

help:
	@sed -n 's/^# make/make/p' Makefile

setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'Kamerton needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)'; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/kamerton train

# Types are checked beside the tests, so that neither leaves a core idle.
test: style
	@$(MAKE) --no-print-directory --jobs 2 types unit

lint: style types

style: setup
	$(BIN)/ruff check src tests scripts
	$(BIN)/ruff format --check src tests scripts
	$(BIN)/lint-imports --no-cache --no-logo

types: setup
	$(BIN)/mypy

# A worker for each core, up to four, with one thread each. Bytecode is kept, whatever the environment says: hundreds
# of processes import the same modules.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal
FAST := not slow and not browser and not package and not stress

unit: setup
	$(PYTEST) -m "$(FAST)"

test-slow: setup
	$(PYTEST) -m "(slow or browser or package) and not stress"

stress: setup
	$(PYTEST) -m stress
	$(BIN)/python scripts/chaos.py --kills 200
	$(BIN)/python scripts/bench/server.py fuzz --raw 5000
	$(BIN)/python scripts/fuzz/data_fuzz.py --inputs 10000

coverage: setup
	$(PYTEST) -m "$(FAST)" --cov --cov-report=term:skip-covered

bench: setup
	$(BIN)/python scripts/bench/throughput.py

PEERS ?= $(HOME)/.cache/kamerton/peers
bench-train: setup
	@test -n "$(DATA)" || { echo 'make bench-train DATA=FOLDER, with banking77/ and gsm8k/ in it'; exit 1; }
	PYTHON=$(PYTHON) scripts/bench/peers.sh $(PEERS)
	$(BIN)/python scripts/bench/train.py --data $(DATA) --peers $(PEERS) --out docs/benchmarks.md

# Exact versions of what is installed now; +cpu is the build, not the version.
lock:
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf .venv .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
