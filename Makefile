# PostFinder. `make run` does the main job, `make test` passes the tests, `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
unexport PYTHONDONTWRITEBYTECODE  # without compiled files every start costs seconds more
UV := $(BIN)/uv pip

.PHONY: help run serve chat test slow live lint format ci up down logs bench faults report load screenshots lock clean
help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/uv:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install python3.11, or name yours: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is needed: apt install python3.11-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt

$(VENV)/.base: locks/base.txt locks/uv.txt pyproject.toml | $(BIN)/uv
	@echo "Installing (once)…"
	@$(UV) install --quiet --require-hashes -r locks/base.txt
	@$(UV) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: locks/dev.txt $(VENV)/.base
	@$(UV) install --quiet --require-hashes -r locks/dev.txt
	@touch $@

run: $(VENV)/.base  ## Import the sample if there are no posts, answer three questions, open the page (and the bot, with a token)
	@$(BIN)/postfinder serve --demo

serve: $(VENV)/.base  ## Start the appliance alone
	@$(BIN)/postfinder serve

chat: $(VENV)/.dev  ## Talk to the bot in this terminal, over a Bot API server on loopback
	@$(BIN)/python -m tests.servers.chat

test: $(VENV)/.dev  ## Run the tests
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

slow: $(VENV)/.dev  ## Run the long tests too (minutes)
	@$(BIN)/python -m pytest -m slow

.venv-live/.ok: locks/live.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv-live
	@.venv-live/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r locks/live.txt
	@touch $@

live: .venv-live/.ok $(VENV)/.dev  ## Run the tests against real vLLM and FlagEmbedding on the CPU, and in a browser (own environment, 4 GB, minutes)
	@.venv-live/bin/python -m pytest tests/live -s -W default --confcutdir=tests/live --ignore=tests/live/test_page.py --ignore=tests/live/test_desk_page.py
	@$(BIN)/python -m pytest tests/live/test_page.py tests/live/test_desk_page.py -m live

lint: $(VENV)/.dev  ## Format check, lint, types, import floors
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev  ## Format and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

ci: lint .venv-check/.ok test  ## What the CI runs

.venv-check/.ok: locks/check.txt locks/uv.txt | $(BIN)/uv
	@$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-check
	@$(UV) install --quiet --python .venv-check --require-hashes -r locks/check.txt
	@touch $@

COMPOSE = docker compose -f compose/$(PROFILE).yaml $(if $(MONITORING),-f compose/monitoring.yaml)
PROFILE ?= cpu
export PROFILE

up: compose/secrets/telegram_bot_token compose/secrets/grafana_admin_password  ## Start the containers (PROFILE=gpu for a language model, MONITORING=1 for Grafana)
	@mkdir -p compose/import
	@$(COMPOSE) up --build --detach --wait

down:  ## Stop the containers; data, keys and weights stay
	@$(COMPOSE) down

logs:  ## Follow the containers' logs
	@$(COMPOSE) logs --follow --tail 100

compose/secrets/%:  # read by containers through the file's mode; other users of the host are kept out by the folder's
	@install -d -m 700 compose/secrets
	@if [ $* = telegram_bot_token ]; then : > $@; else head -c 18 /dev/urandom | base64 > $@; fi
	@chmod 644 $@

bench: $(VENV)/.dev  ## Run the benchmark suites, keep the results, render the tables (not: faults, load, answers by a model)
	@$(BIN)/postfinder bench all
	@$(BIN)/postfinder bench render

faults: $(VENV)/.dev  ## Kill, cut the power, mislead, erase: nothing acknowledged is lost, nothing private stays (an hour)
	@$(BIN)/postfinder bench faults
	@$(BIN)/postfinder bench render

report: $(VENV)/.dev  ## Draw the report of the kept results: one HTML file with plots
	@$(BIN)/python -m benchmarks.report

load: $(VENV)/.dev  ## Links at a fixed rate, then people at both doors; HTML, CSV and figures kept (LOAD_LINKS_RATE=… LOAD_LINKS_TIME=30m LOAD_TIME=… LOAD_STAGES=8,32,96)
	@$(BIN)/python -m benchmarks.load

screenshots: $(VENV)/.dev  ## Make the pictures of the page and of conversations with the bot (needs Chromium)
	@$(BIN)/python -m benchmarks.screenshots
	@$(BIN)/python -m benchmarks.transcripts

lock: $(BIN)/uv  ## Renew the locked, hashed dependencies
	@$(UV) compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml -o locks/base.txt
	@$(UV) compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra dev --extra report --extra load -c locks/base.txt pyproject.toml -o locks/dev.txt
	@$(UV) compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra embedder -c locks/base.txt pyproject.toml -o locks/embedder.txt
	@$(UV) compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 locks/check.in -o locks/check.txt
	@$(UV) compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.12 --no-deps locks/answerer.in -o locks/answerer.txt

clean:  ## Remove the environment and caches; data and weights stay
	@rm -rf $(VENV) .venv-check .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
