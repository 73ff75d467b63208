# The two commands that matter: `make demo` and `make test`. Both keep their environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/whinchat
# For this machine's own processor; of llama.cpp only the library that the binding calls.
LLAMA_OPTIONS := -DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
	-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF

# The oldest and the newest supported Python, for test-oldest and test-newest.
PYTHON_OLDEST ?= python3.11
PYTHON_NEWEST ?= python3.13
GUIDED_CASES ?= 10000
PYTEST := pytest -m "not slow" -n logical --maxprocesses 4 --dist loadfile

# Where this variable is set, as in many containers, every process would compile whinchat and its tests anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint unit test-slow test-gpu test-oldest test-newest fuzz fuzz-guided audit browser bench bench-full bench-gpu \
	bench-llama zoo docs format clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo  ## fine-tune SmolLM2-135M on 3,000 tweets and write runs/demo (minutes on two cores), or go on with it
	$(RUN) run demo --resume

test: lint unit  ## everything CI checks

lint: $(VENV)/.dev  ## style, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.dev  ## the tests, without those marked slow
	$(BIN)/$(PYTEST)

test-slow: $(VENV)/.dev  ## the tests marked slow: minutes to tens of minutes
	$(BIN)/pytest -m slow

test-gpu: $(VENV)/.dev  ## the tests for a real GPU (CUDA or MPS), on tiny models: minutes; skipped without one
	$(BIN)/pytest -m gpu tests/gpu

test-oldest: $(VENV)-oldest/.dev  ## the tests with the oldest Python and the oldest supported release of each package
	$(VENV)-oldest/bin/$(PYTEST)

test-newest: $(VENV)-newest/.dev  ## the tests with the newest Python and the newest supported release of each package
	$(VENV)-newest/bin/$(PYTEST)

fuzz: $(VENV)/.dev  ## 100,000 hostile recipes, tables, texts, files and requests, a table to paste; FUZZ=... for options
	$(BIN)/python -W ignore -m fuzz --cases 100000 $(FUZZ)

# -len_control=0: long inputs from the start, since a case takes some hundred bytes of choices.
fuzz-guided: $(VENV)/.fuzz  ## the same areas with atheris, which follows the lines that a case reaches (about 20 minutes)
	@for area in recipes tables prompts 'model files' requests; do \
		mkdir -p "build/fuzz/$$area" && $(BIN)/python -W ignore -m fuzz.coverage_guided "$$area" "build/fuzz/$$area" \
			-atheris_runs=$(GUIDED_CASES) -len_control=0 -max_len=4096 || exit 1; \
	done

audit: $(VENV)-audit/.audit  ## known vulnerabilities of the packages in constraints.txt; fails where PyPI's advisories are not reached
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --no-deps --progress-spinner off -r constraints.txt

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

clean:  ## remove the environments; runs stay
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest $(VENV)-audit

# constraints.txt names the versions that were tested together; without it pip picks whatever is newest in range.
$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

# Without --no-compile pip spends a minute and more on modules of which few are imported.
$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo

$(VENV)/.fuzz: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,fuzz]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo

$(VENV)/.docs: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@ $(VENV)/.demo

# uv works out the oldest release of each package that pyproject.toml names, with which the others go together.
$(VENV)-oldest/.dev: pyproject.toml
	rm -rf $(VENV)-oldest
	$(PYTHON_OLDEST) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)-oldest/bin/uv pip compile --quiet --resolution lowest-direct --extra dev pyproject.toml \
		--python $(VENV)-oldest/bin/python --output-file $(VENV)-oldest/constraints.txt
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV)-oldest/constraints.txt \
		-e '.[dev]'
	@touch $@

$(VENV)-newest/.dev: pyproject.toml
	rm -rf $(VENV)-newest
	$(PYTHON_NEWEST) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(VENV)-audit/.audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@touch $@
