# `make` lists what there is. Every target works in the virtual environment that is active.

.DEFAULT_GOAL := help
PYTHON ?= python

help:  ## this list
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

install:  ## install for development, with the compiled kernels and all tools
	SOR_REQUIRE_EXT=1 $(PYTHON) -m pip install -e '.[test,bench,docs,lint,release]'

test:  ## all tests; those that need Kafka start one (Java and Maven), or say why not
	$(PYTHON) -m pytest

# test_feed, test_core and test_placement_twins take each kernel in turn by themselves, and test_dbn takes none
test-pure:  ## the tests that reach the kernels once more, on the pure-Python ones
	SOR_PURE_PYTHON=1 $(PYTHON) -m pytest -q -m 'not kafka and not network' --ignore=tests/market/test_feed.py \
	  --ignore=tests/market/test_dbn.py --ignore=tests/models/test_core.py --ignore=tests/models/test_placement_twins.py \
	  tests/market tests/models tests/routing tests/stream tests/test_errors.py tests/test_guards.py tests/test_types.py

lint:  ## style, types and Cython, as CI checks them
	ruff check .
	ruff format --check .
	cython-lint sor
	mypy
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	zizmor --quiet --offline --min-severity=medium .github
	hadolint Dockerfile
	shellcheck --severity=warning .ci/run .ci/try-wheel tests/stack.sh

docs:  ## the documentation site, in build/docs; a warning is an error
	$(PYTHON) -m sphinx -E -W --keep-going -q docs build/docs

linkcheck:  ## whether links out of the site lead somewhere (needs the network)
	$(PYTHON) -m sphinx -E -W --keep-going -q -b linkcheck docs build/linkcheck

format:  ## put the style right
	ruff check --fix .
	ruff format .

bench:  ## all benchmarks, against their peers (minutes)
	$(PYTHON) benchmarks/allocation.py
	$(PYTHON) benchmarks/placement.py
	$(PYTHON) benchmarks/replay.py
	$(PYTHON) benchmarks/replay.py --algorithm cont_kukanov
	$(PYTHON) benchmarks/replay.py --symbols 5000 --rows 300000
	$(PYTHON) tools/memory.py
	$(PYTHON) benchmarks/stream.py

fuzz:  ## mutated files of every format through all that reads files (half an hour)
	$(PYTHON) tools/fuzz_files.py

accepted:  ## a million orders of all routings at venues that reject what breaks their rules (a minute)
	$(PYTHON) tools/accepted.py

chaos:  ## break brokers and consumers, set groups back, mutate messages, watch the memory (hours; needs Java and Maven)
	$(PYTHON) tools/chaos.py
	$(PYTHON) tools/chaos.py --client confluent --set-backs 4 --changes 2 --retentions 2 --anew
	$(PYTHON) tools/chaos.py --client kafka-python --set-backs 4 --changes 2 --retentions 2 --anew
	$(PYTHON) tools/chaos.py --orders --set-backs 4
	$(PYTHON) tools/chaos.py --orders --set-backs 4 --client confluent
	$(PYTHON) tools/chaos.py --algorithm cont_kukanov --messages 200000 --set-backs 2 --anew
	$(PYTHON) tools/chaos.py --delivery at-least-once --messages 100000
	$(PYTHON) tools/fuzz.py
	$(PYTHON) tools/fuzz.py --algorithm cont_kukanov
	$(PYTHON) tools/fuzz.py --orders --algorithm cont_kukanov
	$(PYTHON) tools/soak.py
	$(PYTHON) tools/soak.py --orders
	$(PYTHON) tools/soak.py --algorithm cont_kukanov

SEEDS ?= 20
seeds:  ## the tests without brokers on fresh seeds, SEEDS=20 of them (two minutes each); stops at the first that fails
	@for i in $$(seq $(SEEDS)); do \
	  seed=$$($(PYTHON) -c 'import secrets; print(secrets.randbelow(2**32))'); echo "seed $$seed ($$i of $(SEEDS))"; \
	  $(PYTHON) -m pytest -q -m 'not kafka and not network' --hypothesis-seed=$$seed || exit 1; done

sample:  ## make sample.csv again; the same bytes, as its generator is seeded
	$(PYTHON) tools/make_sample.py

stack:  ## build the image, run the compose file, check it, take it down (needs Docker)
	bash tests/stack.sh

ci:  ## everything that CI runs
	bash .ci/run

clean:  ## remove what building and testing leave behind
	rm -rf build dist *.egg-info sor/*.c sor/*/*.c sor/*.so sor/*/*.so .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install test test-pure lint docs linkcheck format bench fuzz accepted chaos seeds sample stack ci clean
