# Each target sets itself up: a virtual environment in .venv, filled from pinned requirements. Start with `make demo`.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first Python that runs and is 3.11 or later; Lambda runs 3.13.
PYTHON ?= $(shell for python in python3.13 python3 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export SAM_CLI_TELEMETRY := 0
# As it was written: make would take its $ for variables of its own.
override export PARAMETERS := $(value PARAMETERS)
PACKAGES := $(basename $(wildcard */requirements*.in))
export SEED PLANT
# Which Mem0 the memory writer's package is built for: platform or oss, as the stack's parameter MemoryBackend.
MEMORY_BACKEND ?= platform

.PHONY: help demo local test faults bench check format lock build sizes deploy parameters clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

demo: .venv/ready  ## sets itself up, starts the embedded AWS, deploys to it and sends calls
	@$(BIN)/python -m scripts.demo.run

local: .venv/ready  ## the same stack and its page, up until Ctrl-C (LOCAL_PORT, DEMO_CALLS=no, PARAMETERS="Name=Value ...", secrets: Name=ask)
	@$(BIN)/python -m scripts.embedded.local

test: .venv/ready .venv-sam/ready  ## all tests
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

faults: .venv/ready  ## proves the promises under faults, in about 10 minutes (SEED=N and PLANT=BUG: prints one schedule)
ifdef SEED
	@$(BIN)/python -m tests.faults.simulator.run --seed "$$SEED" --plant "$$PLANT"
else ifdef PLANT
	@echo "PLANT needs a seed: make faults SEED=0 PLANT=$$PLANT" >&2; exit 2
else
	@$(BIN)/python -m tests.faults.report
endif

bench: .venv/ready  ## measures payloads that are expensive to read, and lists of 10,000 and 100,000 calls, and searches
	@$(BIN)/python -m tests.hostile
	@$(BIN)/python -m tests.reading
	@$(BIN)/python -m tests.searching

check: .venv/ready .venv-sam/ready .venv-checkov/ready  ## format, lint, types, imports between folders, links, template checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layout.py tests/test_documentation.py tests/scripts/deploy/test_table.py
	$(BIN)/cfn-lint template.yaml
	$(BIN)/python -m scripts.embedded.local translate > .venv/translated.json
	$(BIN)/cfn-lint --ignore-checks W1033 W7001 -- .venv/translated.json  # W7001: its constants are written out
	AWS_DEFAULT_REGION=us-east-1 .venv-sam/bin/sam validate --lint --template template.yaml
	$(BIN)/python -m tests.options > .venv/options.json
	.venv-checkov/bin/checkov --file .venv/options.json --framework cloudformation --skip-download --quiet --compact

format: .venv/ready  ## formats the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/ready  ## pins every requirement anew
	@for name in requirements-dev requirements-sam requirements-checkov; do \
		$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade \
			$$name.in -o $$name.txt || exit 1; done
	@for name in $(PACKAGES); do \
		$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
			-c requirements-dev.txt $$name.in -o $$name.txt || exit 1; done

build: .venv-sam/ready  ## sam build (MEMORY_BACKEND=oss packages open-source Mem0)
	PATH="$(CURDIR)/.venv-sam/bin:$$PATH" .venv-sam/bin/sam build

sizes: .venv-sam/ready  ## prints the size of each package that make build made
	@.venv-sam/bin/python -m scripts.package_sizes

deploy: .venv-sam/ready  ## makes a new stack by a few questions, or updates one and keeps its values (STACK, PARAMETERS="Name=Value ...")
	@.venv-sam/bin/python -I -c 'import sys; sys.path.append(sys.argv.pop(1)); from scripts.deploy.__main__ import main; \
		sys.exit(main())' "$(CURDIR)"

parameters: .venv/ready  ## writes the table of the stack's parameters into docs/deploy.md
	@$(BIN)/python -m scripts.deploy.table

clean:  ## removes everything that the other targets made
	rm -rf .venv .venv-sam .venv-checkov .local .aws-sam

# An environment is ready when all of it is installed: the stamp comes last, and an interrupted installation is done again.
.venv/ready: requirements-dev.txt
	@$(MAKE) --no-print-directory environment FOLDER=.venv REQUIREMENTS=$<

.venv-sam/ready: requirements-sam.txt
	@$(MAKE) --no-print-directory environment FOLDER=.venv-sam REQUIREMENTS=$<

.venv-checkov/ready: requirements-checkov.txt
	@$(MAKE) --no-print-directory environment FOLDER=.venv-checkov REQUIREMENTS=$<

.PHONY: environment
environment:
	@test ! -L $(FOLDER) || { echo "$(FOLDER) is a link, and what it points to is older than $(REQUIREMENTS). Remove the link." >&2; exit 1; }
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none was found. With pyenv: pyenv install 3.13" >&2; exit 1; }
	@echo "Setting up $(FOLDER) with $$($(PYTHON) --version), once; this takes a minute or two ..."
	@$(PYTHON) -m venv --clear $(FOLDER) || { echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(FOLDER)/bin/python -m pip install -qq --no-compile --require-hashes -r $(REQUIREMENTS)
	@touch $(FOLDER)/ready

# What `sam build` calls, once for each function: a folder, shared, and the folder's pinned requirements. A new function is
# a line here.
build-IngestFunction: PACKAGE := ingest
build-ArchiverFunction: PACKAGE := archiver
build-MemoryWriterFunction: PACKAGE := memory_writer
build-ReconcilerFunction build-AudioFunction: PACKAGE := reconciler
build-TranscriberFunction: PACKAGE := transcriber
build-IndexerFunction: PACKAGE := indexer
build-CanaryFunction: PACKAGE := canary
build-ReadFunction: PACKAGE := api

PINNED := requirements.txt
build-MemoryWriterFunction: PINNED := $(if $(filter oss,$(MEMORY_BACKEND)),requirements-oss,requirements).txt
# For Lambda's machine. The tests build for their own, with their own pip.
PIP := python3.13 -m pip
PLATFORM := --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 --implementation cp --python-version 3.13
# The utilities of Powertools that functions import, and what these import; the others are half of it.
UTILITIES := batch data_classes jmespath_utils parser typing
build-IngestFunction build-CanaryFunction: UTILITIES := jmespath_utils typing
build-ReadFunction: UTILITIES := data_classes jmespath_utils typing
# What no function imports: Powertools' router for REST, with all of Swagger; httpx' asynchronous half, which httpcore does
# without; pydantic's old version; commands, tests, stubs. Of the metadata the names, versions and licences stay, which
# scanners read. Open-source Mem0 imports more of it, and keeps it.
UNUSED := aws_lambda_powertools/event_handler anyio anyio-*.dist-info pydantic/v1 pydantic/mypy.py bin */tests */*.pyi */py.typed \
	*.dist-info/RECORD *.dist-info/INSTALLER *.dist-info/REQUESTED *.dist-info/WHEEL *.dist-info/sboms
# The API has routes, and no page of Swagger.
build-ReadFunction: UNUSED := $(UNUSED:%/event_handler=%/event_handler/openapi/swagger_ui)
build-MemoryWriterFunction: UNUSED := $(if $(filter oss,$(MEMORY_BACKEND)),bin,$(UNUSED))
build-%Function:
	mkdir "$(ARTIFACTS_DIR)/$(PACKAGE)" "$(ARTIFACTS_DIR)/shared"
	cp $(PACKAGE)/*.py "$(ARTIFACTS_DIR)/$(PACKAGE)"
	cp shared/*.py "$(ARTIFACTS_DIR)/shared"
	$(PIP) install -q --require-hashes --no-compile --only-binary=:all: $(PLATFORM) --target "$(ARTIFACTS_DIR)" -r $(PACKAGE)/$(PINNED)
	cd "$(ARTIFACTS_DIR)" && rm -rf $(UNUSED)
	cd "$(ARTIFACTS_DIR)"/aws_lambda_powertools/utilities && find . -mindepth 1 -maxdepth 1 -type d $(UTILITIES:%=! -name %) -exec rm -r {} +
