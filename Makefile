# Thin doors; README.md shows the lines behind them.
PYTHON ?= python3
VENV := .venv
# Not quiet: the first install takes a minute, in which something should be seen.
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: demo quick test lint slow faults chaos bench pages lock clean

demo: $(VENV)/to-run
	$(VENV)/bin/tweetcrawler demo --keep demo

test: $(VENV)/to-develop
	$(VENV)/bin/pytest -n 4 --dist worksteal

# What is pure, the settings, the layers and the pages: half a minute, before each push.
QUICK := layers docs settings handles auth_csv coverage queries prices identity flatten flatten_v1 work replacing_files
quick: $(VENV)/to-develop
	$(VENV)/bin/pytest -n 2 $(QUICK:%=tests/test_%.py)

lint: $(VENV)/to-develop
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

slow: $(VENV)/to-develop
	$(VENV)/bin/pytest -m slow --timeout 3600

# Every fault that must be survived, in its short form, which `make test` runs, too; prints fault, promise and figure.
faults: $(VENV)/to-develop
	TWEETCRAWLER_FIGURES=1 $(VENV)/bin/pytest -n 4 --dist worksteal tests/faults

# The same in the long form, an hour and a quarter.
chaos: $(VENV)/to-develop
	TWEETCRAWLER_FIGURES=1 $(VENV)/bin/pytest tests/faults -m "slow or not slow" --timeout 7200

# BENCH="crawl --full" chooses measurements and their size; docs/performance.md shows what came out.
bench: $(VENV)/to-develop
	$(VENV)/bin/python -m benchmarks $(BENCH)

# What is written from the tables of options and commands, after they changed.
pages: $(VENV)/to-develop
	$(VENV)/bin/python docs/make_reference.py
	$(VENV)/bin/python docs/make_share.py

# With pip-tools or uv; neither lock names where packages come from.
lock:
	uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-header \
	    --extra embedded --extra sandbox --group install pyproject.toml -o requirements.lock
	uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-header \
	    --all-extras --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

$(VENV)/to-run: requirements.lock pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/to-develop: requirements-dev.lock $(VENV)/to-run
	$(PIP) install --require-hashes -r requirements-dev.lock
	touch $@

clean:
	rm -rf $(VENV) demo
