# `make demo` and `make test` are all that a fresh clone needs: uv where it is installed, python3 -m venv and pip otherwise.

VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
DEMO   := demo-output

PACKAGES  := langgraph langgraph-checkpoint langgraph-checkpoint-sqlite langgraph-sdk langchain-core langchain \
             pydantic tiktoken genai-prices rich typer platformdirs
QUESTIONS := -q "How does LangGraph persist the state of a graph, and what happens when a node fails?" \
             -q "How can checkpoint deserialization be restricted to safe types?" \
             -q "How does byte pair encoding turn text into tokens, and how many bytes is a token on average?"

.PHONY: help demo test cover check bench bench-all bench-quick clean
.DELETE_ON_ERROR:

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: $(VENV)/.installed-demo ## a cited brief over the documentation of the installed packages, offline, with a bill
	@mkdir -p $(DEMO)
	@$(BIN)/lcr brief --installed $(PACKAGES) $(QUESTIONS) \
	    --budget 0.50 --model extractive --price-as openai:gpt-5.4-mini --home $(DEMO)/home > $(DEMO)/brief.txt
	@cat $(DEMO)/brief.txt
	@run=$$(sed -n '1s/^run //p' $(DEMO)/brief.txt) && \
	    $(BIN)/lcr report "$$run" --home $(DEMO)/home --html $(DEMO)/report.html >/dev/null
	@echo
	@echo "The report with its timeline: $(DEMO)/report.html"
	@echo "The same with a real model:"
	@echo "  $(BIN)/python -m pip install langchain-openai    (or langchain-anthropic with ANTHROPIC_API_KEY)"
	@echo "  OPENAI_API_KEY=... $(BIN)/lcr brief --installed langgraph pydantic -q \"your question\" --budget 0.50"

test: $(VENV)/.installed-test ## every test, the ones that kill processes included
	$(BIN)/python -m pytest -n auto

cover: $(VENV)/.installed-test ## the same, and no branch of contracts, money or planning may be untested
	$(BIN)/python -m pytest -n auto --cov --cov-report=
	$(BIN)/coverage report --skip-covered --fail-under=95
	$(BIN)/coverage report --skip-covered --fail-under=100 \
	    --include='langchain_runtime/contracts/*,langchain_runtime/cost/*,langchain_runtime/orchestration/*'

check: $(VENV)/.installed-test ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: ## every claim with its figure, its peers (in an environment of their own) and the ratio
	@$(MAKE) --no-print-directory VENV=.venv-bench bench-all

bench-all: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/harness.py --write
	LCR_EXAMPLES=5000 $(BIN)/python -m pytest -q -n auto tests/property_tests/test_context_invariants.py \
	    tests/property_tests/test_conversation_invariants.py

bench-quick: $(VENV)/.installed-test ## the same on smaller inputs
	$(BIN)/python benchmarks/harness.py --quick

clean: ## everything that the targets above made
	rm -rf $(VENV) .venv-bench $(DEMO)

# A stamp per set of extras: the demo does not wait for linters to be installed.
$(VENV)/.installed-demo: EXTRAS := cli,offline
$(VENV)/.installed-test: EXTRAS := test
$(VENV)/.installed-bench: EXTRAS := bench
$(VENV)/.installed-%: pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	    { test -x $(BIN)/python || uv venv --quiet --seed --python '>=3.11' $(VENV); } && \
	    uv pip install --quiet --python $(BIN)/python -e '.[$(EXTRAS)]'; \
	else \
	    $(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)' && \
	    { test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); } && \
	    $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'; \
	fi
	@touch $@
