# Two commands do all set-up on a fresh machine with Python 3.11 and make: make demo, make test.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo standalone test check lint types site unit integration kill-matrix test-distributed benchmark docs
.PHONY: fuzz soak floors test-matrix newest audit audit-offline dist format constraints clean pictures

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

# What needs no running Airflow.
QUICK := tests/unit tests/properties tests/fuzz tests/faults tests/secrets tests/trust

# The floors are pinned for Python 3.11, the lowest too.
test: lint types site $(if $(filter %python3.11,$(PYTHON)),floors) ## Everything that shows that it works; coverage of at least 95 %
	$(BIN)/python -m pytest -q -n auto --cov --cov-report= $(QUICK)
	$(BIN)/python -m pytest -q -n auto tests/boundaries
	$(BIN)/python -m pytest --cov --cov-append --cov-report=term-missing:skip-covered --cov-fail-under=95 tests/integration
	$(BIN)/python -m pytest tests/e2e
	.ci/install-browser
	$(BIN)/python -m pytest tests/browser

pictures: setup ## Take the pictures of Airflow's pages in docs/images anew
	.ci/install-browser
	$(BIN)/python -m pytest tests/browser --pictures=docs/images

# The lowest versions that pyproject.toml allows: all of them with Airflow 2.11.0, the others with the Airflow of make test.
FLOORS := 2.11.0 3.3.2
FLOOR_TESTS := tests/unit/api tests/unit/test_exceptions.py $(patsubst %,tests/unit/glue/test_%.py, \
  cli form form_of_airflow_2 hook links operator ownership permissions provider_info retained sharing stopping)
# The others import airflow.sdk, which Airflow 2 does not have, or are of Airflow 3.3's triggers.
NOT_AT_FLOORS := callbacks, notifier, sensor, tracking, trigger, xcom (of Airflow 3)

floors: $(addprefix floor-,$(FLOORS)) ## Unit tests with the lowest versions that pyproject.toml allows

floor-%: setup
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .cache/floor-$*
	$(BIN)/uv pip install --quiet --python .cache/floor-$*/bin/python --constraint .ci/floors-airflow-$*.txt \
	  --editable '.[emulator]' --group unit
	@echo 'Airflow $*. Not run: $(NOT_AT_FLOORS)'
	.cache/floor-$*/bin/python -m pytest -q -n auto -W ignore $(FLOOR_TESTS)

# AIRFLOW=3.0.6 takes that version only. What each is pinned to: PINS in noxfile.py.
ON_PYTHON := $(patsubst python%,%,$(notdir $(PYTHON)))

test-matrix: setup ## Tests and example DAGs on every Airflow from 2.11 on, an hour; installs PostgreSQL where there is none, for 2.11
	$(if $(filter 3.%,$(AIRFLOW)),,.ci/install-services postgresql)
	$(BIN)/nox $(if $(AIRFLOW),--session airflow-$(AIRFLOW)-$(ON_PYTHON),--python $(ON_PYTHON))

newest: setup ## The floors' tests with the newest versions there are, of Airflow too
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .cache/newest
	$(BIN)/uv pip install --quiet --python .cache/newest/bin/python --editable '.[emulator]' --group unit
	.cache/newest/bin/python -m pytest -q -n auto -W ignore tests/unit/api tests/unit/emulator tests/unit/glue

audit: setup ## Known vulnerabilities in what .ci/constraints.txt pins; asks the package index, and fails if it cannot tell
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint .ci/constraints.txt --group audit
	$(BIN)/pip-audit --strict --disable-pip --no-deps --progress-spinner off --requirement .ci/constraints.txt

audit-offline: setup ## The same against ADVISORIES, a clone of github.com/pypa/advisory-database
	$(BIN)/python -m tests.support.advisories $(ADVISORIES) .ci/constraints.txt

dist: setup ## Build the wheel and the source archive into dist/, and check them; the same bytes for the same commit
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/twine check --strict dist/*
	sha256sum dist/*

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

soak: setup ## Soak one triggerer in 500 operations that come and go, with faults; 10 minutes; 1 if a figure is missed
	$(BIN)/python -m tests.soak $(SOAK)
FUZZ := .cache/fuzz
FUZZ_SECONDS ?= 600

fuzz: setup ## Fuzz names, payloads, answers and extras for FUZZ_SECONDS (600); 1 if something is found
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(FUZZ)
	$(BIN)/uv pip install --quiet --python $(FUZZ)/bin/python --constraint .ci/constraints.txt --group fuzz
	$(FUZZ)/bin/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

check: lint types unit ## The fast inner loop

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/zizmor --offline --quiet --persona=pedantic .github

types: setup
	$(BIN)/mypy

unit: setup
	$(BIN)/python -m pytest -q -n auto $(QUICK)

integration: setup ## The tests that start a real Airflow, a real client, a clean environment
	$(BIN)/python -m pytest tests/integration

SITE := .cache/site

site: setup ## Build the docs site; a warning is an error, and so is what a page loads from elsewhere
	AIRFLOW_HOME=$(abspath .cache/site-airflow) $(BIN)/sphinx-build -q -W --keep-going -b html docs $(SITE)
	$(BIN)/python -m tests.support.site $(SITE)
	@echo "open $(SITE)/contents.html"

docs: setup ## Refresh the generated blocks of README.md and docs/
	$(BIN)/python -m tests.support.docs

format: setup ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# First what is asked for directly, as low as it goes, then the test tools that go with it.
PIN := $(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --no-header --no-annotate --no-emit-index-url --all-extras
define pin_floors
	mkdir -p .cache
	echo 'apache-airflow==$(1)' >.cache/airflow.txt
	$(PIN) --resolution lowest-direct --constraint .cache/airflow.txt --output-file .cache/lowest.txt pyproject.toml
	$(PIN) --group unit --constraint .cache/lowest.txt --output-file .ci/floors-airflow-$(1).txt pyproject.toml

endef

define pin_airflow
	mkdir -p .cache
	echo 'apache-airflow==$(1)' >.cache/airflow.txt
	$(PIN) --universal --group matrix --constraint .cache/airflow.txt $(addprefix --constraint ,.ci/constraints-older-airflow.txt \
	  $(wildcard .ci/airflow-$(1).in)) --output-file .ci/airflow-$(1).txt pyproject.toml

endef

constraints: setup ## Pin the newest versions that work together
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	  --all-extras --group dev --group benchmark --group distributed --group fuzz --group audit --group release \
	  --constraint .ci/constraints.in --output-file .ci/constraints.txt pyproject.toml
	$(foreach airflow,$(FLOORS),$(call pin_floors,$(airflow)))
	$(foreach pins,$(wildcard .ci/airflow-*.txt),$(call pin_airflow,$(patsubst .ci/airflow-%.txt,%,$(pins))))

clean: ## Remove what the other targets made
	rm -rf $(VENV) .cache .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
