# dpt_ros on a bare machine: everything, ROS 2 included, goes into .venv.
SHELL := bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON_CODE := dpt_ros launch test setup.py
ON_EVERY_CORE := $(BIN)/pytest -q --numprocesses auto --dist loadfile
# Folders count too, so that a deleted file is noticed.
SOURCES := setup.py setup.cfg package.xml LICENSE $(shell find dpt_ros launch config resource \
	-name __pycache__ -prune -o \( -type f -o -type d \) -print)

# Neither another environment nor a sourced ROS 2 may reach into .venv. Bytecode may be left there:
# without it PyTorch takes twice as long to start, each time.
unexport PYTHONDONTWRITEBYTECODE
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH RMW_IMPLEMENTATION _ROS_WHEELS_BOOTSTRAP_COMPLETE
ifdef ROS_DISTRO
unexport LD_LIBRARY_PATH ROS_DISTRO
endif
export AMENT_PREFIX_PATH := $(abspath $(VENV))
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST

.PHONY: help demo test soak fuzz audit lint pins clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

demo: $(VENV)/.package ## see it work; ARGS="..." is passed to `dpt demo`
	@$(BIN)/dpt demo $(ARGS)

lint: $(VENV)/.test ## style and types
	@echo 'ruff';       $(BIN)/ruff check --quiet --output-format concise .
	@                   $(BIN)/ruff format --quiet --diff .
	@echo 'flake8';     $(BIN)/flake8 $(PYTHON_CODE)
	@echo 'pydocstyle'; $(BIN)/pydocstyle $(PYTHON_CODE)
	@echo 'package.xml'; $(BIN)/python -c 'import xml.etree.ElementTree as e; e.parse("package.xml")'
	@echo 'mypy';       $(BIN)/mypy --no-error-summary dpt_ros

test: lint $(VENV)/.package ## lint, then every test; ARGS="..." is passed to the last pytest
	@echo 'pytest -m graph, field types checked'
	@ROS_PYTHON_CHECK_FIELDS=1 $(ON_EVERY_CORE) -m graph
	@echo 'pytest -m "not graph"'
	@$(ON_EVERY_CORE) -m 'not graph' $(ARGS)

soak: $(VENV)/.test $(VENV)/.package ## the long run, 31 minutes; ARGS="--minutes 5" is passed on
	@DPT_ROS_ROUNDS=500 $(BIN)/pytest -q -m graph test/ros/test_lifecycle.py
	@$(BIN)/python test/soak/soak.py $(ARGS)

fuzz: $(VENV)/.fuzz $(VENV)/.package ## 200 000 malformed messages and files; ARGS="--runs 6000" is passed on
	@$(BIN)/python test/fuzz/fuzz.py $(ARGS)

audit: $(VENV)/.audit ## known vulnerabilities of what requirements/*.txt pin; asks the network
	@$(BIN)/python scripts/audit.py

pins: $(VENV)/.uv ## solve requirements/*.in anew into requirements/*.txt
	@cd requirements && for name in run cluster test fuzz audit; do \
		../$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --upgrade \
			--no-header --no-annotate --no-emit-index-url $$name.in -o $$name.txt || exit; \
	done

clean: ## remove .venv and all that was built
	rm -rf $(VENV) demo soak build install log *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(VENV)/.uv: scripts/venv.sh
	@echo 'making $(VENV)'
	@scripts/venv.sh create
	@touch $@

$(VENV)/.run: $(VENV)/.uv requirements/run.txt
	@echo 'installing requirements/run.txt (the first time, some gigabytes)'
	@scripts/venv.sh requirements requirements/run.txt
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt
	@echo 'installing requirements/test.txt'
	@scripts/venv.sh requirements requirements/run.txt requirements/test.txt
	@touch $@

$(VENV)/.fuzz $(VENV)/.audit: $(VENV)/.%: $(VENV)/.test requirements/%.txt
	@echo 'installing requirements/$*.txt'
	@scripts/venv.sh requirements requirements/$*.txt
	@touch $@

$(VENV)/.package: $(VENV)/.run $(SOURCES)
	@echo 'installing dpt_ros'
	@scripts/venv.sh package
	@touch $@
