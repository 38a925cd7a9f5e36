# Everything a person types. `make help` says what there is.
SHELL := /bin/bash
# A broker that setup unpacked stands in .cache; Debian puts installed ones in /usr/sbin.
export PATH := $(CURDIR)/.cache/broker/bin:$(PATH):/usr/sbin

.DEFAULT_GOAL := help
.PHONY: help setup broker node test check demo drill bench sim soak fleet fuzz powercut torture messages generated constraints clean

help: ## say what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 20

setup: ## prepare .venv with vendingd, vendctl and firmware-sim in it
	@tests/tooling/setup.sh

broker: ## find a mosquitto, or fetch one
	@path=$$(tests/tooling/broker.sh) && echo "broker: $$path"

node: setup ## find a Node, or fetch one, for the JavaScript client in docs/clients
	@tests/tooling/node.sh >/dev/null || true

# Three at once, also on one core: most of them wait for motors. ARGS="-n 0" for one by one.
test: setup broker node ## set up and run all tests; choose with ARGS, as ARGS="-k crash -x"
	.venv/bin/python -m pytest -n 3 --dist loadfile $(ARGS)

check: setup ## lint, format, types, and who may import whom
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -q tests/test_import_rules.py

demo: setup broker ## watch orders become falling products, in a minute; STAY=1 leaves it running
	@.venv/bin/python -m tests.demo.play $(if $(filter-out 0 no,$(STAY)),--stay)

drill: setup broker ## find a fault that nobody tells, with vendctl alone; ARGS="--seed 7"
	@.venv/bin/python -m tests.drill.play $(ARGS)

bench: setup broker ## measure ourselves against bare baselines; ARGS=--json for figures
	.venv/bin/python -m benchmarks $(ARGS)

sim: setup ## play simulated machines until a promise breaks; ARGS="--first 1000 --count 500"
	.venv/bin/python -m tests.sim $(ARGS)

soak: setup broker ## sell for a simulated day, and minutes for real: nothing grows; ARGS="--hours 24"
	.venv/bin/python -m tests.soak.play $(ARGS)

fleet: setup broker ## 500 machines sell through one broker and platform-sim, both restarted; ARGS="--machines 100"
	.venv/bin/python -m tests.fleet.play $(ARGS)

fuzz: setup ## let atheris try inputs for five minutes; ARGS="--seconds 60 --target vbp-frames"
	@tests/tooling/fuzzer.sh
	.venv/bin/python -m tests.fuzz $(ARGS)

powercut: setup broker ## cut a virtual machine's power 50 times; choose with ARGS, as ARGS="--cuts 5"
	.venv/bin/python -m tests.powercut.play $(ARGS)

torture: setup broker ## kill -9 the real daemon 500 times under load; ARGS="--kills 50 --seed 7"
	.venv/bin/python -m tests.torture.play $(ARGS)

messages: setup ## collect the sentences of vendctl, and say which lack a translation
	.venv/bin/python -m tests.tooling.messages

generated: setup ## renew what is made from the code: man pages, schemas, API documents
	.venv/bin/python -m tests.tooling.manual
	.venv/bin/python -m tests.tooling.schemas
	.venv/bin/python -m tests.tooling.openapi
	.venv/bin/python -m tests.tooling.contract

constraints: ## renew config/constraints.txt with the newest that pyproject.toml allows
	@tests/tooling/renew-constraints.sh

clean: ## remove .venv and everything else that was made here
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
