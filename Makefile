# Every target says after ## what it does; `make help` prints that.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help serve test test-reliability docs corpus bench lint lock audit sbom clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(VENV)/train ## train on the synthetic market if nothing is deployed, then serve on port 8000
	@test -e "$${APPRAISER_ARTIFACTS:-artifacts}/deployment.json" || $(BIN)/appraiser train
	@exec $(BIN)/appraiser serve

# One process more than there are cores, since many of the tests wait for a service.
test: lint ## lint, check types, run every test
	@$(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --dist worksteal --durations=10 --ignore tests/reliability

test-reliability: $(VENV)/dev ## the tests that take longer, with their figures: load, kills, swaps, upgrades, retraining, fuzzing
	@$(BIN)/python -m pytest -s tests/reliability

docs: $(VENV)/dev ## write the tables of docs/ that are made from the code
	@$(BIN)/python -m docs.generate

corpus: $(VENV)/corpus ## fetch gunicorn's own requests, valid and invalid, for the tests that send them

bench: $(VENV)/dev $(VENV)-bench/ready ## what a training, a request, cache, journal, metrics, a rate limit and a start of the service cost
	@$(BIN)/python -m benchmarks.model
	@$(BIN)/python -m benchmarks.request
	@$(BIN)/python -m benchmarks.cache
	@$(BIN)/python -m benchmarks.observability
	@$(BIN)/python -m benchmarks.rate_limit
	@test -e "$${APPRAISER_ARTIFACTS:-artifacts}/deployment.json" || $(BIN)/appraiser train
	@$(BIN)/python -m benchmarks.start
	@$(BIN)/python -m benchmarks.slow_clients
	@$(BIN)/python -m benchmarks.hostile_bodies
	@$(BIN)/python -m benchmarks.mixed_batches
	@$(VENV)-bench/bin/python -m benchmarks.mixed
	@$(VENV)-bench/bin/python -m benchmarks.endurance
	@$(VENV)-bench/bin/python -m benchmarks.compare

lint: $(VENV)/dev ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

LOCK := $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --generate-hashes --no-header pyproject.toml
lock: $(VENV)/dev ## choose dependencies anew and lock them with hashes
	@$(LOCK) --upgrade --extra train --extra dev -o requirements-dev.txt
	@$(LOCK) --extra train --extra dev --extra bench -c requirements-dev.txt -o requirements-bench.txt
	@$(LOCK) --extra train -c requirements-dev.txt -o requirements-train.txt
	@$(LOCK) -c requirements-train.txt -o requirements.txt
	@for client in triton kserve; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade .ci/clients/$$client.in -o .ci/clients/$$client.txt || exit; done

# Strict: what the service asked does not know is no good news. AUDIT='--vulnerability-service osv' asks another one.
audit: $(VENV)/dev ## look for known vulnerabilities in all that is locked
	@$(BIN)/pip-audit $(AUDIT) --strict --disable-pip --require-hashes --progress-spinner off $(addprefix --requirement ,$(wildcard requirements*.txt))

sbom: $(VENV)/dev ## write sbom.json: what the image of the service installs (CycloneDX)
	@$(BIN)/python -W ignore::UserWarning -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible --output-file sbom.json requirements.txt

clean: ## remove the environment and caches; artifacts stay
	@rm -rf $(VENV) $(VENV)-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info

# A file for each set of requirements that is installed: newer than its lock, it is up to date.
$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/train $(VENV)/dev: $(VENV)/%: requirements-%.txt pyproject.toml | $(VENV)/python
	@echo "installing $<"
	@$(PIP) install --require-hashes -r $<
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# Only the source distribution has them: the one whose digest is locked beside that of the wheel.
$(VENV)/corpus: requirements.txt | $(VENV)/dev
	@rm -rf $@ $(VENV)/sdist
	@awk '/^gunicorn==/, !/\\$$/' $< > $(VENV)/gunicorn.txt
	@$(PIP) download --require-hashes --no-deps --no-binary :all: --no-build-isolation -d $(VENV)/sdist -r $(VENV)/gunicorn.txt
	@mkdir $@ && tar -xzf $(VENV)/sdist/gunicorn-*.tar.gz -C $@ --strip-components 1
	@touch $@

# An environment of its own, so that what others are built of is not what ours is tested with.
$(VENV)-bench/ready: requirements-bench.txt
	@echo "making $(VENV)-bench, for what Appraiser is compared with"
	@$(PYTHON) -m venv $(VENV)-bench
	@$(VENV)-bench/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@
