# Every recipe is one plain command of the environment in .venv; `make` alone lists the targets.
PYTHON ?= python3
ARGS ?=
SECONDS ?= 10
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test test-vm soak check fmt wheel bench lock fuzz crash

help: ## list the targets
	@awk -F ':.*## ' '/^[.a-z-]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv: pyproject.toml requirements-dev.txt ## the environment, from the locked dependencies
	@.ci/environment.sh "$(PYTHON)"
	@touch .venv

.venv/mosquitto.ready: | .venv
	@.ci/mosquitto.sh && touch $@

run: .venv .venv/mosquitto.ready ## everything in one place on loopback, live (ARGS="--once 2000 --outage 5 --json")
	@$(BIN)/patch-gateway demo $(ARGS)

test: .venv .venv/mosquitto.ready ## all tests but the heavy ones and those on the machine (ARGS="-k name")
	@.ci/debian.sh tshark systemd gcc libc6-dev
	$(BIN)/python -m pytest -n auto -m "not heavy and not vm" $(ARGS)

test-vm: .venv .venv/mosquitto.ready ## on a Debian 12 machine with BlueZ under QEMU; root, x86_64 (ARGS="-k name")
	@$(BIN)/python tests/vm/run.py $(ARGS)

soak: .venv .venv/mosquitto.ready ## the long forms: a day of work, 50,000 modelled power cuts, ten of the machine of each kind
	@TEST_HOURS=24 $(BIN)/python -m pytest -q -s -m heavy tests/buffer/test_day.py
	@$(MAKE) --no-print-directory crash ARGS="--states 50000"
	@TEST_CUTS=10 $(BIN)/python tests/vm/run.py -k acknowledged $(ARGS)

.venv/fuzz.ready: requirements-fuzz.txt | .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@

fuzz: .venv .venv/fuzz.ready ## every reader and decoder with atheris; x86_64 (SECONDS=60 each, ARGS="--target pcap")
	@$(BIN)/python tests/fuzz/run.py $(SECONDS) $(ARGS)

crash: .venv ## power cuts of the buffer, modelled (ARGS="--states 10000 --seed 7 [--mutant normal] --json")
	@.ci/debian.sh gcc libc6-dev
	@$(BIN)/python tests/crash/power_cuts.py $(ARGS)

check: .venv ## ruff, mypy strict, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_floors.py

fmt: .venv ## format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: .venv ## build the wheel into dist/
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

bench: .venv ## measure, as ratios within one run (ARGS="--quick --json")
	@.ci/debian.sh tshark gcc libc6-dev
	@$(BIN)/python -m benchmarks $(ARGS)

lock: .venv ## renew requirements*.txt (needs the index; see CONTRIBUTING.md)
	.ci/lock.sh
