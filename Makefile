# The two commands that matter: `make demo` and `make test`. Both keep their environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/whinchat
# For this machine's own processor; of llama.cpp only the library that the binding calls.
LLAMA_OPTIONS := -DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
	-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF

.PHONY: demo test lint unit test-slow browser bench bench-full bench-llama zoo docs format clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo  ## fine-tune SmolLM2-135M on 3,000 tweets and write runs/demo (minutes on two cores)
	$(RUN) run demo --overwrite

test: lint unit  ## everything CI checks

lint: $(VENV)/.dev  ## style, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.dev  ## the tests, without those marked slow
	$(BIN)/pytest -m "not slow" -n logical --maxprocesses 4 --dist loadfile

test-slow: $(VENV)/.dev  ## the tests marked slow: minutes to tens of minutes
	$(BIN)/pytest -m slow

test-gpu: $(VENV)/.dev  ## the tests for a real GPU (CUDA or MPS), on tiny models: minutes; skipped without one
	$(BIN)/pytest -m gpu tests/gpu

browser:  ## Debian's Chromium, in which the served page is tested; without one those tests are skipped
	command -v chromium || (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium)

bench: $(VENV)/.bench  ## whinchat and its peers side by side, short version: about 20 minutes on two cores
	$(BIN)/python -m benchmarks

bench-full: $(VENV)/.bench  ## all contestants, all points, more rounds: well over an hour
	$(BIN)/python -m benchmarks --full

bench-gpu: $(VENV)/.bench  ## whinchat, TRL and a classification head on a GPU: about 15 minutes on a T4, a table to paste
	$(BIN)/python -m benchmarks.gpu

bench-llama: $(VENV)/.bench  ## build llama.cpp's Python binding for the benchmarks (minutes)
	CMAKE_ARGS="$(LLAMA_OPTIONS)" $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		--no-binary llama-cpp-python llama-cpp-python

zoo: $(VENV)/.dev  ## try every architecture of transformers on tiny models and write docs/backbones.md (about 15 minutes)
	$(BIN)/python -m benchmarks.zoo --publish

docs: $(VENV)/.docs  ## the documentation site in build/site; a broken link fails
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(VENV)/.dev  ## put the code in its usual form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment; runs stay
	rm -rf $(VENV)

# constraints.txt names the versions that were tested together; without it pip picks whatever is newest in range.
$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo

$(VENV)/.docs: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@ $(VENV)/.demo
