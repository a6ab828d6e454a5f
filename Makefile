# `make` lists what there is. Every target works in the virtual environment that is active.

.DEFAULT_GOAL := help
PYTHON ?= python

help:  ## this list
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

install:  ## install for development, with the compiled kernels and all tools
	SOR_REQUIRE_EXT=1 $(PYTHON) -m pip install -e '.[test,bench,lint]'

test:  ## all tests; those that need Kafka start one (Java and Maven), or say why not
	$(PYTHON) -m pytest

test-pure:  ## the tests once more on the pure-Python kernels
	SOR_PURE_PYTHON=1 $(PYTHON) -m pytest -m 'not kafka and not network'

lint:  ## style, types and Cython, as CI checks them
	ruff check .
	ruff format --check .
	cython-lint sor
	mypy

format:  ## put the style right
	ruff check --fix .
	ruff format .

bench:  ## all benchmarks, against their peers (minutes)
	$(PYTHON) benchmarks/allocation.py
	$(PYTHON) benchmarks/placement.py
	$(PYTHON) benchmarks/replay.py
	$(PYTHON) benchmarks/replay.py --algorithm cont_kukanov
	$(PYTHON) benchmarks/stream.py

chaos:  ## break brokers and consumers, mutate messages, watch the memory (half an hour or more; needs Java and Maven)
	$(PYTHON) tools/chaos.py
	$(PYTHON) tools/chaos.py --delivery at-least-once --messages 100000
	$(PYTHON) tools/fuzz.py
	$(PYTHON) tools/soak.py

sample:  ## make sample.csv again; the same bytes, as its generator is seeded
	$(PYTHON) tools/make_sample.py

stack:  ## build the image, run the compose file, check it, take it down (needs Docker)
	bash tests/stack.sh

ci:  ## everything that CI runs
	bash .ci/run

clean:  ## remove what building and testing leave behind
	rm -rf build dist *.egg-info sor/*.c sor/*.so .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install test test-pure lint format bench chaos sample stack ci clean
