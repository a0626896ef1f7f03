# The two commands of the README are `make demo` and `make test`; each sets up what it needs on a fresh machine.
.PHONY: demo test check quick bench docs setup types pyright lint unit lock clean

BIN := .venv/bin
# ONNX Runtime's wheels report home from 1.29 on; nothing here may.
export ORT_DISABLE_TELEMETRY := 1
PATHS ?= -p shoal
# Sources and tests of the fast checks.
FAST := -m "not system and not slow"

demo:
	@.dev/setup.sh run
	@$(BIN)/shoal demo

setup:
	@.dev/setup.sh dev

lint: setup
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .

types: setup
	@$(BIN)/mypy $(PATHS)
	@MYPYPATH=.dev $(BIN)/mypy tests

unit: setup
	@$(BIN)/pytest -q $(FAST) -n 2

# Static gates and the tests of the house itself (layers, imports, packaging, documents); under a minute.
check: lint types
	@$(BIN)/pytest -q tests/house

quick: lint types unit

# The second type checker takes over a minute, so it stands alone.
pyright: setup
	@$(BIN)/pyright --threads 2

test: setup
	@$(BIN)/pytest -q -n 2 --dist loadgroup
	@.dev/other-python.sh

bench: setup
	@$(BIN)/shoal bench all

docs: setup
	@$(BIN)/python .dev/docs.py

lock:
	@uv pip compile --quiet --universal --python-version 3.11 --extra all -c requirements/constraints.txt --generate-hashes --no-header pyproject.toml -o requirements/run.txt
	@uv pip compile --quiet --universal --python-version 3.11 --all-extras -c requirements/run.txt --generate-hashes --no-header pyproject.toml -o requirements/dev.txt

clean:
	@rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
