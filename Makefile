# The two commands are `make scorecard` and `make test`; both set up what they need.
#   make scorecard                          on the embedded local cluster (root, Go; see the README); its
#     nodes share one machine, and unsteady throughput there is undecided on the page, and no error here
#   make scorecard KUBECONFIG=~/.kube/config ARGS="--namespace team-a"   on your own cluster
SHELL := /bin/bash
VENV := .venv
KAR := $(VENV)/bin/kar
PYTEST := $(VENV)/bin/python -m pytest
ARGS ?=
# What the local cluster has beyond its core; without a network driver KAR-10 finds nothing, without
# a gateway ai_inference.
ADDONS ?= dranet endpoint-picker
# Before anything else, so that the time which is printed at the end has the environment in it.
BEGAN := $(shell date +%s)

.PHONY: scorecard test lint unit pages cluster-tests sabotages nightly-series docs lock dist check-dist clean

scorecard: $(VENV)/.ready
ifdef KUBECONFIG
	$(KAR) run --kubeconfig $(KUBECONFIG) $(ARGS)
else
	@status=0; \
	$(KAR) cluster up $(ADDONS:%=--addon %) && \
	$(KAR) run --local-cluster --fail-on fail,error $(ARGS) || status=$$?; \
	echo "make scorecard $$($(KAR) cluster took $(BEGAN))"; \
	exit $$status
endif

test: lint unit pages cluster-tests

lint: $(VENV)/.ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy -p kar_checks -p localcluster
	$(VENV)/bin/mypy probes tests conftest.py benchmarks scripts
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m scripts.reasons
	$(VENV)/bin/python -m scripts.english

unit: $(VENV)/.ready
	$(PYTEST) tests/unit -q -n auto --dist worksteal

pages: $(VENV)/.ready
	scripts/need-apt chromium
	$(PYTEST) tests/pages -q

# As many rows as KAR_TEST_MINUTES allows; the last lines report which did not run.
cluster-tests: $(VENV)/.ready
	$(VENV)/bin/python -m scripts.cluster_tests

# Every row, whatever it takes: before a change is called done.
sabotages: $(VENV)/.ready
	$(VENV)/bin/python -m scripts.cluster_tests --all $(ARGS)

# Thirty real runs with injected regressions: too long for `make test`.
nightly-series: $(VENV)/.ready
	$(PYTEST) tests/cluster/thirty_nights.py -vv -s

docs: $(VENV)/.ready
	$(VENV)/bin/python -m scripts.generate

# Hashes of every dependency, of every extra, for every platform; `uv` is needed only here.
lock:
	uv pip compile --universal --generate-hashes --group dev --all-extras pyproject.toml \
	  -o requirements.lock --no-header --no-annotate --quiet

dist: $(VENV)/.ready
	rm -rf dist
	$(VENV)/bin/hatchling build -d dist

# The wheel in an empty environment; `TAG=v1.2.3` demands that version.
check-dist: dist
	PYTHON=$(VENV)/bin/python scripts/check-dist dist

$(VENV)/.ready: requirements.lock pyproject.toml
	scripts/make-venv $(VENV)

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache
