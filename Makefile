# The few verbs of the house. `make up` and `make test` need python3 (3.11 or newer) with pip, make and git; nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
UV_VERSION := 0.13.9
# uv writes the index it was told of into the lock; these must not leak into it (LESSONS T9).
UV := env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL UV_PYTHON_DOWNLOADS=never .tools/uv
PY_SOURCES := platform plugins acceptance benchmarks ops conftest.py
BROKER_FAULTS := acceptance/test_broker_down.py acceptance/test_broker_cluster.py acceptance/test_restarts.py

.PHONY: help up test test-quick e2e faults servers check fix bench docs schemas lock clean

help: ## Show the verbs
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

up: .venv/ready ## Run Busbar with everything embedded, in the foreground
	@exec .venv/bin/busbar up

# Three at a time: much of them is waiting. The outage alone lasts five minutes; over RabbitMQ the walk-through, the chain
# and three kills are run once more here, and everything in `make e2e`.
test: .venv/ready servers ## Run all tests
	@rm -rf .logs; mkdir .logs; \
	  .venv/bin/pytest -q acceptance/test_outage.py $(BROKER_FAULTS) > .logs/faults 2>&1 & faults=$$!; \
	  { .venv/bin/pytest -q acceptance $(patsubst %,--ignore=%,acceptance/test_outage.py $(BROKER_FAULTS)) && \
	    BUSBAR_ACCEPTANCE_BUS=rabbitmq .venv/bin/pytest -q acceptance/test_walk_through.py acceptance/test_chain.py \
	    acceptance/test_crash.py -k "not (Kills or TestCrash) or after_claim or before_ledger or before_cursor"; \
	  } > .logs/acceptance 2>&1 & acceptance=$$!; \
	  .venv/bin/pytest -q platform plugins; status=$$?; \
	  wait $$faults || status=1; wait $$acceptance || status=1; cat .logs/faults .logs/acceptance; exit $$status

test-quick: .venv/ready servers ## Run the tests that take less than ten seconds each
	.venv/bin/pytest -q -m "not slow"

e2e: .venv/ready servers ## Run the services of compose.yml as processes, and acceptance tests over RabbitMQ and with Camel
	@.venv/bin/python -m ops.e2e

faults: .venv/ready servers ## Run the fault tests at their full length: a broker dead for ten minutes, fifty stops, 20,000 requests
	BUSBAR_FAULTS=full .venv/bin/pytest -q $(BROKER_FAULTS)

servers: ## Make sure of the servers that tests run: RabbitMQ, Prometheus, HAProxy, and what builds Camel
	@ops/need.sh rabbitmq-server prometheus haproxy javac maven

check: .venv/ready ## Format, lint, types, import contracts, shape, documents, published event schemas, lock
	.venv/bin/ruff format --check $(PY_SOURCES)
	.venv/bin/ruff check $(PY_SOURCES)
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/busbar reference --check
	.venv/bin/pytest -q platform/busbar/tests/test_house.py platform/busbar/tests/test_docs.py
	@$(UV) lock --check --quiet

fix: .venv/ready ## Format, and mend what can be mended without thinking
	.venv/bin/ruff format $(PY_SOURCES)
	.venv/bin/ruff check --fix $(PY_SOURCES)

bench: .venv/ready ## Run the benchmarks; see benchmarks/README.md
	@command -v wrk >/dev/null 2>&1 || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null 2>&1 && \
	  apt-get install --quiet --yes wrk; } || { echo "The benchmarks need wrk: install it, for example by apt-get." >&2; exit 1; }
	.venv/bin/python -m benchmarks

docs: .venv/ready ## Write docs/reference from the code
	.venv/bin/busbar reference

lock: .tools/uv ## Update uv.lock
	$(UV) lock

clean: ## Remove what `make` has installed; data in BUSBAR_HOME stays
	rm -rf .venv .tools

.venv/ready: .tools/uv uv.lock pyproject.toml $(wildcard platform/pyproject.toml plugins/*/pyproject.toml plugins/connectors/*/pyproject.toml)
	@$(UV) sync --frozen --quiet --python $(PYTHON)
	@touch $@

# uv in a folder of its own. A python without venv (Debian's, as delivered) still has pip.
.tools/uv:
	@mkdir -p .tools
	@if command -v uv >/dev/null 2>&1; then ln -sf "$$(command -v uv)" .tools/uv; else \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools/lib uv==$(UV_VERSION) && \
	  ln -sf lib/bin/uv .tools/uv; fi
