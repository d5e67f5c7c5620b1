# Two thin doors; README.md shows the lines behind them.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test lint slow clean

demo: $(VENV)/installed
	$(VENV)/bin/tweetcrawler demo --keep demo

test: $(VENV)/installed
	$(VENV)/bin/pytest

slow: $(VENV)/installed
	$(VENV)/bin/pytest -m slow --timeout 3600

lint: $(VENV)/installed
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

$(VENV)/installed: requirements.lock pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) demo
