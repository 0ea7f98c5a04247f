# make help lists the targets. Each needs Python 3.11+, make and a package index once; then everything is in .venv.
# PYTHON=/path/to/python chooses the interpreter; PYTEST_ARGS="-k name" goes to pytest; tests are shared out to
# PROCESSES=2 processes, 0 runs them in pytest's own; SEEDS=100000 and MINUTES=60 are for make soak.

PYTHON ?=
PYTEST_ARGS ?=
PROCESSES ?= 2
SEEDS ?= 10000
MINUTES ?= 30
VENV := .venv
BIN := $(VENV)/bin
PINS := pyproject.toml constraints.txt
SIDE_BY_SIDE = -n $(PROCESSES) --dist worksteal

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-fast test-nojit test-faults soak lint bench bench-h2o bench-tpch bench-terasort bench-large dist clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed-run ## count the words of the King James Bible into build/demo
	@mkdir -p build
	@$(BIN)/kernelmill demo --output build/demo

test: $(VENV)/.installed-test ## the whole bounded test suite, then the kernels' tests as plain Python
	@$(BIN)/kernelmill warm
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not faults" $(PYTEST_ARGS)
	@$(MAKE) --no-print-directory test-nojit

test-fast: $(VENV)/.installed-test ## what finishes within a minute
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow and not faults" $(PYTEST_ARGS)

test-nojit: $(VENV)/.installed-test ## the kernels' tests with the compiler off
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/kernels $(PYTEST_ARGS)

test-faults: $(VENV)/.installed-test ## all faults of a cluster: processes killed, hosts cut off, hostile peers
	@$(BIN)/kernelmill warm
	SIMULATION_SEEDS=400 $(BIN)/python -m pytest tests/cluster/faults tests/cluster/netns tests/cluster/simulation $(PYTEST_ARGS)

soak: $(VENV)/.installed-test ## real processes broken at random for MINUTES, then the simulation under SEEDS seeds
	@$(BIN)/kernelmill warm
	$(BIN)/python tests/cluster/faults/soak.py --minutes $(MINUTES)
	SIMULATION_SEEDS=$(SEEDS) $(BIN)/python -m pytest tests/cluster/simulation --timeout 0 $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-test ## benchmarks of the engine against plain Python on the same input
	$(BIN)/python -m pytest bench $(PYTEST_ARGS)

bench-h2o: $(VENV)/.installed-test ## h2o's ten group-by and five join questions at 10^7 rows, beside DuckDB and Polars
	$(BIN)/python -m bench.corpus h2o
	$(BIN)/python -m bench.corpus join-tables
	$(BIN)/python -m bench.compare h2o-groupby
	$(BIN)/python -m bench.compare h2o-join

bench-tpch: $(VENV)/.installed-bench ## the 22 queries of TPC-H, beside DuckDB and Polars
	$(BIN)/python -m bench.compare tpch

bench-terasort: $(VENV)/.installed-test ## records of 100 bytes sorted: 1 GB, on a cluster too, and 4 GB in 512 MB; 15 minutes
	$(BIN)/python -m bench.corpus records
	$(BIN)/python -m bench.corpus records --bytes 4GB
	$(BIN)/python -m bench.compare terasort --cluster 2
	$(BIN)/python -m bench.compare terasort --bytes 4GB --memory 512MB

bench-large: $(VENV)/.installed-test ## 10,000 columns, 100,000 files, 2.5 GB of text in a column, 10^8 groups; 20 minutes
	$(BIN)/python -m bench.compare large

dist: $(VENV)/.installed-dev ## sdist, wheel made from it, both checked in a clean environment
	@.ci/check-dist $(BIN)/python

clean: ## remove what builds and tests left; the environment in .venv stays
	rm -rf build dist src/kernelmill.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# One environment, four sizes. A stamp is younger than the pins it was installed from.
$(VENV)/.installed-run: EXTRA :=
$(VENV)/.installed-test: EXTRA := [test]
$(VENV)/.installed-dev: EXTRA := [dev]
$(VENV)/.installed-bench: EXTRA := [bench]
$(VENV)/.installed-run $(VENV)/.installed-test $(VENV)/.installed-dev $(VENV)/.installed-bench: $(BIN)/python $(PINS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".$(EXTRA)"
	@touch $@

$(BIN)/python:
	@python=$$(.ci/find-python "$(PYTHON)") && echo "$$python -m venv $(VENV)" && "$$python" -m venv --clear $(VENV)
