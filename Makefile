# SPDX-License-Identifier: Apache-2.0
# Everything that takes thought is in tools/setup.py; it does only what is not done yet.

PYTHON := $(shell for p in /usr/bin/python3 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
SETUP = $(or $(PYTHON),$(error python3 >= 3.11 is missing; as root: apt-get install python3)) \
	tools/setup.py
VENV = .venv/bin
PYTEST = $(VENV)/python -m pytest $(PYTEST_ARGS)

FUZZ_SECONDS = 60

BENCHES = $(addprefix bench-,quick peers switchover soak vm detector setup cycles rules links queues chain nic latency)

.PHONY: setup venv build guest-image fuzzers fuzz demo demo-vm test test-unit test-long lint types check bench install uninstall clean $(BENCHES)

setup:
	@$(SETUP) all

venv:
	@$(SETUP) venv

build:
	@$(SETUP) build

guest-image:
	@$(SETUP) guest-image

fuzzers:
	@$(SETUP) fuzzers

demo: setup
	@$(VENV)/python -m ovs_highway.demo

demo-vm: setup guest-image
	@$(VENV)/python -m ovs_highway.demo.vm

# What polls no core may run two at a time.
test: setup guest-image fuzzers
	@failed=0; \
	$(PYTEST) -n 2 --dist loadfile -m "not long" tests/unit tests/model tests/fuzz || failed=1; \
	$(PYTEST) -m "not long" tests/system tests/vm || failed=1; \
	exit $$failed

test-unit: venv
	$(PYTEST) tests/unit

test-long: setup guest-image
	$(PYTEST) -m long tests || test $$? -eq 5  # 5: there are none

fuzz: setup fuzzers
	$(VENV)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS) --json build/fuzz.json $(FUZZ_ARGS)

lint: venv
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .

types: venv
	$(VENV)/mypy

check:
	@$(PYTHON) tools/check_tree.py

$(BENCHES): bench-%: setup
	$(VENV)/highway bench $* --json build/$@.json $(BENCH_ARGS)

bench-vm: guest-image
bench-setup: BENCH_ARGS = --plot build/bench-setup

# Some hours. HOST=big: on 11 cores or more. BENCH_ARGS: --only NAME, --rounds N, --nic PCI.
bench: setup guest-image
	file=$$($(VENV)/highway bench all $(HOST:%=--host %) $(BENCH_ARGS)) && $(VENV)/highway bench report "$$file"

install:
	@$(SETUP) install

uninstall:
	@$(SETUP) uninstall

clean:
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
