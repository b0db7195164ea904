# Main targets: `make run`, `make check` (under a minute, before each commit) and `make test` (everything).
# Each installs what it needs; later runs skip that.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BIND ?= 127.0.0.1:8000

.PHONY: run check test proof lint types contract unit python coverage javascript wheel dist bench lock format clean tools

run: $(VENV)/run.stamp
	$(BIN)/microblog-rt serve --demo --bind $(BIND)

# Lint, types, import contract, and the tests that start no process, on SQLite.
check: lint types contract unit

test: lint types javascript python coverage

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

contract: $(VENV)/dev.stamp
	$(BIN)/lint-imports --no-cache

unit: $(VENV)/dev.stamp
	$(BIN)/python -m pytest --fast -o asyncio_debug=false --ignore tests/wheel --numprocesses 2 --dist worksteal

python: $(VENV)/dev.stamp tools
	$(BIN)/python -m pytest -o asyncio_debug=false $(CORE_TESTS:%=--ignore %) --numprocesses 2 --dist loadfile --no-loadscope-reorder

# The notification core must have full branch coverage. Its tests run here alone, since measuring slows them down, and in
# the debug mode of asyncio, which slows them down as well.
CORE_TESTS := tests/bus tests/test_feed.py tests/test_feed_failures.py tests/test_hub.py tests/test_mailboxes.py \
	tests/test_messages.py tests/test_protocol.py tests/test_publish_queue.py \
	tests/test_streams.py tests/test_watches.py tests/test_site_users.py
CORE := */microblog_rt/feed/*,*/microblog_rt/hub.py,*/microblog_rt/mailboxes.py,*/microblog_rt/protocol.py,*/microblog_rt/bus/*

coverage: $(VENV)/dev.stamp tools
	$(BIN)/python -m pytest $(CORE_TESTS) --numprocesses 2 --dist loadfile --cov --cov-report=
	$(BIN)/coverage report --skip-covered --include='$(CORE)' --fail-under=100

javascript: tools
	node --test tests/js/*.test.js

# Test the built wheel in an empty environment and folder.
wheel: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/wheel

# Build a wheel in dist/.
dist: $(VENV)/run.stamp
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w dist .

# The full fault-injection proof, of which `make test` runs a short form; takes an hour.
proof: $(VENV)/dev.stamp tools
	$(BIN)/python -m pytest tests/proof/test_planted.py
	$(BIN)/python -m pytest tests/test_interleavings.py tests/test_histories.py tests/test_openapi.py --proof --timeout 3600
	$(BIN)/python -m tests.proof
	$(BIN)/python -m tests.published 10000
	$(BIN)/python -m tests.replays 1000 500

# Measure the server beside its peers and write docs/performance.md; `make bench PEERS=` only prints a table, in 3 minutes.
bench: $(VENV)/bench.stamp tools
	$(BIN)/python -m benchmarks $(if $(filter undefined,$(origin PEERS)),--write,--peers '$(PEERS)')

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Regenerate the lock files; needs uv. Pinned versions stay unless pyproject.toml excludes them.
lock:
	echo hatchling | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml - -o requirements.lock
	echo hatchling | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml - --extra postgres --extra redis --extra mail -c requirements.lock \
		-o requirements-server.lock
	echo hatchling | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml - --extra dev -c requirements.lock \
		-o requirements-dev.lock
	echo hatchling | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml - --extra bench -c requirements-dev.lock \
		-o requirements-bench.lock

clean:
	rm -rf $(VENV) .coverage dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# Install the tools that the tests need (Chromium, Node, npm, TypeScript, Redis, PostgreSQL, proxies) from Debian packages, if missing.
tools:
	@.ci/tools chromium node npm tsc node-ws node-eventsource curl redis-server postgres nginx haproxy caddy

$(VENV)/bin/python:
	.ci/venv $(PYTHON) $(VENV)

$(VENV)/run.stamp: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/bench.stamp: requirements-bench.lock $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
