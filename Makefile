# The two that matter: `make run` and `make test`. Both do all their own set-up, and are quick the second time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BIND ?= 127.0.0.1:8000

.PHONY: run test proof lint types python javascript wheel dist bench lock format clean tools

run: $(VENV)/run.stamp
	$(BIN)/microblog-rt serve --demo --bind $(BIND)

test: lint types javascript python wheel

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

python: $(VENV)/dev.stamp tools
	$(BIN)/python -m pytest --ignore tests/wheel --numprocesses 2 --dist loadfile

javascript: tools
	node --test tests/js/*.test.js

# The wheel itself, in an environment and a folder with nothing else in them.
wheel: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/wheel

# A wheel to install elsewhere, in dist/.
dist: $(VENV)/run.stamp
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w dist .

# The long form of what `make test` tries in part: every promise, with everything broken on purpose; half an hour.
proof: $(VENV)/dev.stamp tools
	$(BIN)/python -m pytest tests/proof/test_planted.py
	$(BIN)/python -m pytest tests/test_interleavings.py tests/test_histories.py --proof --timeout 3600
	$(BIN)/python -m tests.proof

bench: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The lock files, anew; needs uv.
lock:
	echo hatchling | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml - -o requirements.lock
	echo hatchling | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml - --extra postgres --extra redis -c requirements.lock \
		-o requirements-server.lock
	echo hatchling | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml - --extra dev -c requirements.lock \
		-o requirements-dev.lock

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# Chromium, Node, Redis, PostgreSQL, nginx and what else the tests drive, from Debian's packages, where they are missing.
tools:
	@.ci/tools chromium node redis-server postgres nginx

$(VENV)/bin/python:
	.ci/venv $(PYTHON) $(VENV)

$(VENV)/run.stamp: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
