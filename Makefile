# Two commands do all set-up on a fresh machine with Python 3.11 and make: make demo, make test.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo standalone test check lint types unit integration kill-matrix test-distributed benchmark docs site
.PHONY: format constraints clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(INSTALLED) ## Make .venv with everything the other targets need

$(INSTALLED): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint .ci/constraints.txt --editable '.[emulator]' --group dev
	@touch $@

demo: setup ## Run the main job on a real Airflow and the emulator
	$(BIN)/python -m tests.support.demo

standalone: setup ## Leave Airflow's UI and the emulator up to explore
	$(BIN)/python -m tests.support.standalone

test: lint types site ## Everything: lint, types, docs site, unit, integration, examples, wheel, kill matrix; coverage of at least 95 %
	$(BIN)/python -m pytest -q -n auto --cov --cov-report= tests/unit
	$(BIN)/python -m pytest --cov --cov-append --cov-report=term-missing:skip-covered --cov-fail-under=95 tests/integration
	$(BIN)/python -m pytest tests/e2e

# AIRFLOW=3.2.2 takes that version, in an environment of its own, and adds its figures to the page.
MATRIX := $(if $(AIRFLOW),.cache/airflow-$(AIRFLOW),$(VENV))
# Airflow 2 warns of its own code, and is run on PostgreSQL.
OTHERS_WARNINGS := $(if $(filter 2.%,$(AIRFLOW)),-W ignore)
DRIVER := $(if $(filter 2.%,$(AIRFLOW)),psycopg2-binary)

kill-matrix: setup ## Let tasks end badly in every way on a real Airflow; write docs/kill-matrix.md
ifdef AIRFLOW
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(MATRIX)
	$(BIN)/uv pip install --quiet --python $(MATRIX)/bin/python --editable '.[emulator]' --group test \
	  --constraint .ci/constraints-older-airflow.txt 'apache-airflow==$(AIRFLOW)' $(DRIVER)
endif
	$(MATRIX)/bin/python -m pytest $(OTHERS_WARNINGS) tests/e2e --kill-matrix=docs/kill-matrix.md

DISTRIBUTED := .cache/distributed

test-distributed: setup ## Two triggerers and two Celery workers on PostgreSQL and Redis; write docs/scaling.md
	.ci/install-services
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(DISTRIBUTED)
	$(BIN)/uv pip install --quiet --python $(DISTRIBUTED)/bin/python --constraint .ci/constraints.txt \
	  --editable '.[emulator]' --group distributed
	$(DISTRIBUTED)/bin/python -m pytest -s tests/distributed --scaling=docs/scaling.md

benchmark: setup ## Measure against the emulator, write docs/benchmarks.md; half an hour; 1 if a figure is missed
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint .ci/constraints.txt --editable '.[emulator]' --group benchmark
	$(BIN)/python -m tests.benchmarks $(BENCHMARK)

check: lint types unit ## The fast inner loop

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

unit: setup
	$(BIN)/python -m pytest -q -n auto tests/unit

integration: setup ## The tests that start a real Airflow, a real client, a clean environment
	$(BIN)/python -m pytest tests/integration

SITE := .cache/site

site: setup ## Build the docs site; a warning is an error
	AIRFLOW_HOME=$(abspath .cache/site-airflow) $(BIN)/sphinx-build -q -W --keep-going -b html docs $(SITE)
	@echo "open $(SITE)/contents.html"

docs: setup ## Refresh the generated blocks of README.md and docs/
	$(BIN)/python -m tests.support.docs

format: setup ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: setup ## Pin the newest versions that work together
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	  --all-extras --group dev --group benchmark --group distributed --constraint .ci/constraints.in --output-file .ci/constraints.txt pyproject.toml

clean: ## Remove what the other targets made
	rm -rf $(VENV) .cache .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
