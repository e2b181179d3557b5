PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check generate clean

demo: $(VENV)/.installed  ## a persona and its tools answer a question, as an assistant would ask
	@$(BIN)/advisor-mcp demo

test: check  ## lint, types, generated files and every test
	@$(BIN)/python -m pytest

check: $(VENV)/.development
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python docs/generate.py --check

generate: $(VENV)/.development  ## write everything that is derived from the declarations
	@$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "advisor-mcp needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing advisor-mcp into $(VENV) (once)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.development: pyproject.toml | $(VENV)/bin/python
	@echo "installing advisor-mcp and its development extras into $(VENV) (once)"
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed
