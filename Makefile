# Each target is one line; the environment in .venv is set up whenever the lock file changed.
PYTHON ?= python3
BIN := .venv/bin
STUDY ?=
# It checks the study, which Snakemake reads before any check of ours can, and removes the lock of a killed Snakemake.
RUN = nclens run $(if $(STUDY),"$(STUDY)")
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder
WORKERS = 3
PIP = $(BIN)/pip install --quiet --disable-pip-version-check
# On every core, where pip takes one; a package's templates that are no Python are left. A quarter of all code is packages'
# own tests and the networks of transformers, which compile when they are imported, if ever. Copies of src, in which tests
# run the workflow, have its compiled files too.
COMPILE = { $(BIN)/python -m compileall -qq -j 0 -x '/tests?/|/transformers/models/' .venv/lib src || true; }
# Beside mypy, which takes one core.
LINT = { snakefmt --check Snakefile rules && snakemake --lint; }
PORT ?= 5000
SERVER ?=
ROOT ?= results/digits
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup reproduce quick test test-all check format lock schema docs ui server record report clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: .venv/ready  ## set up the environment in .venv
	@$(if $(filter setup,$(MAKECMDGOALS)),$(BIN)/python -m nclens._torchvision,:)

.venv/ready: envs/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nclens needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv && $(PIP) --no-compile -r envs/requirements.lock && $(PIP) --no-deps --editable . && $(COMPILE) && touch $@

reproduce: setup  ## run the default study (another: STUDY=studies/NAME.yaml) and print its verdicts
	@$(RUN)

quick: WORKERS = 2
quick: setup  ## run the tests that take moments: no Snakemake, no training, no figures
	@$(PYTEST) -m "not workflow and not slow and not lengthy"

test: setup  ## run every unit test and the smoke study
	@$(PYTEST) -m "not slow"

test-all: setup  ## run every test: faults, kills, clusters, servers and every study's plan too
	@$(PYTEST)

check: setup  ## formatting, lint, types, workflow lint
	@ruff check . && ruff format --check . && { $(LINT) & lint=$$!; mypy && wait $$lint; }

format: setup  ## format the code
	@ruff check --fix . ; ruff format . && snakefmt Snakefile rules

lock: setup  ## write envs/requirements.lock and envs/environment.yaml from .venv
	@$(BIN)/python envs/lock.py

schema: setup  ## write studies/schema.json from the configuration's models
	@nclens schema --output studies/schema.json

docs: setup  ## write the generated pages and the site, site/index.html, with the default study's page; check links and anchors
	@$(BIN)/python docs/tools/pages.py && $(BIN)/python docs/tools/rulegraph.py && PYTHONPATH=docs/tools zensical build --clean --strict && $(BIN)/python docs/tools/publish.py

ui: setup  ## open the MLflow UI on the recorded studies
	@$(BIN)/python envs/server.py --ui --port $(PORT)

server: setup  ## start a tracking server, PostgreSQL and MLflow, on this machine (docs/server.md; SERVER="--auth --port 5001")
	@$(BIN)/python envs/server.py $(SERVER)

record: setup  ## record a study in MLflow again (ROOT=results/NAME), after its database was deleted or the folder moved
	@nclens check "$(or $(STUDY),workflow_config.yaml)" && nclens forget $(ROOT) && $(RUN)

report: setup  ## write Snakemake's own report to results/snakemake.html
	@$(RUN) --report results/snakemake.html

clean:  ## delete the environment and caches; results stay
	@rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis src/*.egg-info
