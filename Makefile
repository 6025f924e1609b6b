# marsnet: `make demo` runs the first-light scenario, `make test` checks everything. `make help` lists the rest.
PYTHON ?= $(shell sh scripts/python.sh)
BIN := .venv/bin
RESULTS := .cache/results
ROOT_USER := $(filter 0,$(shell id -u))
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-unit setup-warp setup-test compiled demo test test-agreement test-warp test-vm quick unit integration lint format bench clean distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install what is missing, start Docker if none runs, build the images
	@$(call set-up,lab)

setup-unit:
	@$(call set-up,unit)

setup-warp: ## what the warp world needs; no root where it is all installed
	@$(call set-up,warp)

setup-test:
	@$(call set-up,test)

compiled: setup-unit ## compile what is slow in Python, after a change to it (setup does the first time)
	@$(BIN)/python scripts/compile.py

demo: setup ## set up, then run scenarios/first_light.yaml (options: ARGS="--rate 600")
	@$(BIN)/marsnet run scenarios/first_light.yaml $(ARGS)

test: setup-test ## set up, lint, unit tests, then (as root) tests on real networks
	@rm -rf $(RESULTS); failed=; \
	for part in lint unit integration; do \
	    $(MAKE) --no-print-directory $$part || failed="$$failed $$part"; \
	done; \
	$(BIN)/python scripts/summary.py $(RESULTS)/*.xml; \
	test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

test-agreement: setup-test ## first light alike in both worlds; as root, up to 15 minutes on quiet cores
	@$(BIN)/python -m pytest -q -m agreement

test-warp: setup-warp ## the warp world in a real QEMU guest; more than half an hour, no root needed
	@$(BIN)/python -m pytest -q -m warp

test-vm: setup-warp ## boot the root of the warp world in QEMU, and check the product inside; no root needed
	@$(BIN)/marsnet run tests/integration/warp/self_check.yaml --world warp

quick: setup-unit ## unit tests that take less than two seconds each
	@$(BIN)/python -m pytest -q -n 2 -m "not root and not slow and not warp"

unit: setup-unit
	@failed=; \
	$(BIN)/python -m pytest -q -n 2 -m "not root and not warp" --junitxml=$(RESULTS)/unit.xml || failed=yes; \
	MARSNET_INTERPRETED=1 $(BIN)/python -m pytest -q -n 2 -m interpreted --junitxml=$(RESULTS)/unit-interpreted.xml \
	    || failed=yes; \
	test -z "$$failed"

integration: $(if $(ROOT_USER),setup-test)
ifdef ROOT_USER
	@$(BIN)/python -m pytest -q -m "root and not agreement" --junitxml=$(RESULTS)/integration.xml
else
	@echo "Tests that build networks are skipped: they need root (sudo make test)."
endif

lint: setup-unit ## ruff, mypy and the arrows between the rooms
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check --exclude '*.md' .
	@$(BIN)/mypy
	@MYPYPATH=scripts $(BIN)/mypy --strict scripts
	@$(BIN)/lint-imports

format: setup-unit ## let ruff lay out the code
	@$(BIN)/ruff check -q --fix .
	@$(BIN)/ruff format -q --exclude '*.md' .

bench: setup ## measurements of links, nodes and controllers
	@set -e; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file"; done

clean: ## take all labs down, stop the dockerd that set-up started here, remove build outputs and caches
	@if [ -n "$(ROOT_USER)" ] && [ -x $(BIN)/marsnet ]; then $(BIN)/marsnet down --all || true; fi
	@$(if $(PYTHON),$(PYTHON) scripts/stop_docker.py)
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache $(RESULTS)
	@find marsnet controllers scripts tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: ## clean, and remove the images and the virtual environment
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m marsnet.worlds.images --remove; fi
	@$(MAKE) --no-print-directory clean
	@find marsnet -name '*.so' -delete
	@rm -rf .venv .cache

define set-up
	$(if $(PYTHON),"$(PYTHON)" scripts/setup.py --for $(1),exit 4)
endef
