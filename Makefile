# The two commands that matter: `make demo` and `make test`. Both keep their environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/whinchat

.PHONY: demo test lint unit test-slow format clean help

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
	$(BIN)/pytest -m "not slow"

test-slow: $(VENV)/.dev  ## the tests marked slow: minutes to tens of minutes
	$(BIN)/pytest -m slow

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
