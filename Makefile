# The verbs of this repository. `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help venv binaries demo test sim nightly bench check generate clean

help: ## List the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(VENV)/.ready ## Make the Python environment in .venv
$(VENV)/.ready: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "quorate: no $(PYTHON) here; install Python 3.11 or newer, or set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "quorate: $(PYTHON) is older than 3.11; set PYTHON= to a newer one" >&2; exit 1; }
	@echo "quorate: making the Python environment in $(VENV) (about a minute the first time)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { echo "quorate: cannot make $(VENV); is the venv module of $(PYTHON) installed and is there space?" >&2; exit 1; }
	@$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]' || { echo "quorate: pip could not install the packages; it needs a network or a package index once" >&2; exit 1; }
	@touch $@

binaries: venv ## Find or build etcd, Kubernetes, kwok and KubeVirt (about 10 minutes the first time)
	@$(PY) -m quorate_local binaries

demo: venv binaries ## Watch a host die and its VMs come back (KEEP=1, HOSTS=, VMS=, SPLIT=)
	@$(PY) -m quorate_local demo $(if $(HOSTS),--hosts $(HOSTS)) $(if $(VMS),--vms $(VMS)) $(if $(SPLIT),--split $(SPLIT)) $(if $(filter-out 0,$(KEEP)),--keep)

test: venv binaries ## Run every test, with the real API server and KubeVirt
	@$(PY) -m pytest $(ARGS)

sim: venv ## Search for a schedule that runs a VM twice (SEEDS=10000, FROM=0), or draw one (SCENARIO=file)
	@$(PY) -m tests.sim $(if $(SCENARIO),--scenario $(SCENARIO),--seeds $(or $(SEEDS),10000) $(if $(FROM),--from $(FROM)))

nightly: venv binaries ## The tests that take too long for every change
	@$(PY) -m pytest -m nightly $(ARGS)

bench: venv ## Measure the planner beside its targets, as text and as charts in docs/ (ARGS=--all: pulse and admission too)
	@$(PY) -m bench $(ARGS)

check: venv ## Format, lint, types, import contracts, generated files
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo
	@$(PY) -m quorate_api --check

generate: venv ## Write the CRD YAML from the models
	@$(PY) -m quorate_api

clean: ## Remove the Python environment and caches of this folder
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
