PYTHON ?= python3
BIN := .venv/bin
SEED ?=
.DEFAULT_GOAL := help

.PHONY: help demo test slow prometheus unit lint bench chaos faults lock clean

help:
	@echo "make demo   run three campaigns on an embedded Kafka and Redis, killing one worker halfway"
	@echo "make test   run linters, type checks, import checks and all tests but the slow ones"
	@echo "make slow   run the slow tests: a storm, failovers, clusters, Prometheus, demo and bench"
	@echo "make prometheus evaluate every panel and alert in a real Prometheus, and show what they say"
	@echo "make unit   run all tests that need no server"
	@echo "make lint   run linters, type checks and import checks only"
	@echo "make bench  measure speed and memory, as ratios within one run"
	@echo "make chaos  run campaigns with random kills (SEED, KILLS, STALLS, RESETS, RECIPIENTS, FAILOVER=20, BROKERS=3, GROUP_PROTOCOL=consumer)"
	@echo "make faults inject every fault at every call of the main job (POINTS=pin,hold:* FAULT=reply_lost,4*)"
	@echo "make lock   update the pinned versions in requirements*.txt"

# Rebuilt when the pins change; pip verifies the hash of every file.
.venv/ready: requirements-dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else "streamer needs Python 3.11 or newer, %s is %d.%d: make PYTHON=/path/to/python3.11" % (sys.executable, *v))'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: .venv/ready
	@$(BIN)/streamer demo

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# More processes than cores: most tests wait for servers most of the time.
test: lint
	$(BIN)/pytest -m "not slow" -n 4 --dist worksteal

slow: .venv/ready
	$(BIN)/pytest -m slow -n 2 --dist worksteal

prometheus: .venv/ready
	$(BIN)/pytest -s tests/integration/test_prometheus.py

# Properties are tried with fewer examples than in `make test`.
unit: .venv/ready
	$(BIN)/pytest tests/unit tests/contracts -m "not real" --hypothesis-profile quick -n 2 --dist worksteal

bench: .venv/ready
	$(BIN)/python -m bench

chaos: .venv/ready
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--kills $(KILLS)) $(if $(RECIPIENTS),--recipients $(RECIPIENTS)) $(if $(STALLS),--stalls $(STALLS)) $(if $(RESETS),--resets $(RESETS)) $(if $(FAILOVER),--failovers $(FAILOVER)) $(if $(BROKERS),--brokers $(BROKERS)) $(if $(GROUP_PROTOCOL),--group-protocol $(GROUP_PROTOCOL))

faults: .venv/ready
	$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(if $(POINTS),--points '$(POINTS)') $(if $(FAULT),--fault '$(FAULT)') $(if $(LANES),--lanes $(LANES))

lock: .venv/ready
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/python -m pip install --quiet uv
	.venv/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml -o requirements.txt
	.venv/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group build -o requirements-build.txt
	.venv/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra stack --extra parquet --extra dev -c requirements.txt pyproject.toml -o requirements-dev.txt

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
