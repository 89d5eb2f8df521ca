# `make demo` and `make test` set up all they need in .venv; nothing is installed outside it.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip
STACKS := tests/conformance/stacks
# Tests wait more than they work: one more process at a time than there are cores, and four at most.
AT_ONCE = $(shell $(PYTHON) -c "import os; print(min(4, 1 + (os.cpu_count() or 1)))")
# `make everything coverage COVERED=1` measures what the tests run of the package.
PYTEST := $(BIN)/$(if $(COVERED),coverage run,python) -m pytest
# Else each of the hundreds of commands that tests start would compile the package anew: half a second.
unexport PYTHONDONTWRITEBYTECODE
# A file's tests run in one process, as they share browsers and servers; tests/conftest.py gives the order of files.
SPREAD := --dist loadfile --no-loadscope-reorder

.PHONY: demo docs test long field everything coverage fuzz slow conformance bench lint types package clean

# What the demo needs alone is installed where nothing is yet.
.venv/demo: pyproject.toml
	@echo "Installing what the demo needs into .venv: 800 MB, a minute or two the first time"
	$(PYTHON) -m venv .venv
	$(PIP) install --disable-pip-version-check --progress-bar off --editable '.[portrait]'
	@touch $@

.venv/ready: pyproject.toml
	@echo "Installing everything for development into .venv: 2.5 GB, some minutes the first time"
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --upgrade pip
	$(PIP) install --quiet --editable '.[dev]'
	touch $@

demo: $(if $(wildcard .venv/ready),,.venv/demo) ## a face mesh in the browser: no camera needed
	@echo "Starting: open the address of the viewer in a browser, Ctrl-C ends it"
	$(BIN)/python -m synopticon_rtc.broadcast --source portrait --name demo

docs: .venv/ready ## the documentation, in build/site: open build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

test: .venv/ready ## the tests, those with a browser where one is installed
	$(PYTEST) -m "not slow and not fuzz and not field and not long" -n $(AT_ONCE) $(SPREAD)

long: .venv/ready ## those that take many seconds each, other programs and browsers among them
	$(PYTEST) -m "long and not slow" -n $(AT_ONCE) $(SPREAD)

field: .venv/ready ## what users bring, by the commands as they run them: a table
	$(PYTEST) -m "field and not slow" -n auto --maxprocesses 4 $(SPREAD) -v --no-header tests/field

everything: .venv/ready ## test, long and field in one run, at whose end alone processes wait for the last test
	$(PYTEST) -m "not slow and not fuzz" -n $(AT_ONCE) $(SPREAD)

coverage: .venv/ready ## lines and branches of the package that `make everything COVERED=1` ran, and those that it did not
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

fuzz: .venv/ready ## bent inputs for everything that reads what others send: a minute, or SECONDS=3600
	$(BIN)/python -m pytest -m fuzz -s tests/fuzz --timeout 0 --fuzz-seconds $(or $(SECONDS),60)

slow: .venv/ready ## soak and load
	$(BIN)/python -m pytest -m slow

$(STACKS)/node_modules/ready: $(STACKS)/package.json
	npm install --prefix $(STACKS) --no-audit --no-fund --no-package-lock --ignore-scripts
	touch $@

conformance: .venv/ready $(STACKS)/node_modules/ready ## every published server and page, and other stacks, against ours: tables
	$(BIN)/python tests/conformance

bench: .venv/ready ## every measurement, against plain aiortc: an hour
	$(BIN)/python -m benchmarks

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy
	$(BIN)/pyright

package: .venv/ready ## a source distribution and a wheel in dist/, checked
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

clean:
	rm -rf .venv .arm $(STACKS)/node_modules build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
