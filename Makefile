# What a contributor needs. `make demo` and `make test` prepare a fresh machine by themselves.
SHELL := bash
# rustup's folder, for a shell that was open before Rust was installed.
export PATH := $(PATH):$(HOME)/.cargo/bin
export JESSE_PYTHON := $(CURDIR)/.venv/bin/python
# Jesse wants pytest 6, for which the plugins that come with its other packages are too new.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD := 1

.PHONY: help setup build demo up test bench soak lint clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

setup: ## Get what is missing on this machine, and Jesse into .venv
	@scripts/setup

build: setup ## Build the release binary
	cargo build --release

demo: build ## See it work: a backtest through MCP, a cached one, a chart (about a minute once built)
	@demo/run

up: build ## Serve on 127.0.0.1:8100 with the demo's data until Ctrl-C (PORT=... for another port)
	@demo/run up

test: ## Run all tests, on a real Redis and a real Jesse
	@scripts/setup tests
	cargo test --workspace
	JOBS_TEST_REDIS=cluster cargo test --workspace --test queue
	@if [ -x $(OLDEST_REDIS) ]; then JOBS_TEST_REDIS=$(OLDEST_REDIS) cargo test --workspace --test queue; \
	else echo 'there is no Redis 6.2 for this machine: not tested on it'; fi
	$(JESSE_PYTHON) -m pytest workers/runner/tests -q
	JESSE_JOBS_BINARY=$${CARGO_TARGET_DIR:-target}/debug/jesse-jobs $(JESSE_PYTHON) -m pytest deploy/tests -q

bench: build ## Measure backtests and searches against Jesse, and the queue against others (needs scripts, see bench/)
	cargo build --release -p queue-bench -p risk-bench
	$(JESSE_PYTHON) bench/faster.py
	$(JESSE_PYTHON) bench/backtests.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs --compare "--reuse-processes false"
	$(JESSE_PYTHON) bench/against_jesse.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs
	$(JESSE_PYTHON) bench/streams.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs
	$(JESSE_PYTHON) bench/batches.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs
	$(JESSE_PYTHON) bench/queues.py $${CARGO_TARGET_DIR:-target}/release/queue-bench
	$(JESSE_PYTHON) bench/mcp.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs
	$(JESSE_PYTHON) bench/console.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs
	$(JESSE_PYTHON) bench/risk.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs $${CARGO_TARGET_DIR:-target}/release/risk-bench

soak: build ## Run thousands of backtests and a million small jobs, kill and restart things, send anything, calibrate risk (an hour)
	cargo build --release -p queue-bench -p risk-bench
	$(JESSE_PYTHON) bench/soak.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs
	$(JESSE_PYTHON) bench/noise.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs
	$(JESSE_PYTHON) bench/chaos.py $${CARGO_TARGET_DIR:-target}/release/queue-bench
	$(JESSE_PYTHON) bench/chaos.py $${CARGO_TARGET_DIR:-target}/release/queue-bench --kill-redis
	$(JESSE_PYTHON) bench/scaling.py $${CARGO_TARGET_DIR:-target}/release/queue-bench --api $${CARGO_TARGET_DIR:-target}/release/jesse-jobs
	$(JESSE_PYTHON) bench/rolling.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs
	$(JESSE_PYTHON) bench/webhooks.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs $${CARGO_TARGET_DIR:-target}/release/queue-bench
	$(JESSE_PYTHON) bench/openapi.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs
	$(JESSE_PYTHON) bench/endurance.py $${CARGO_TARGET_DIR:-target}/release/jesse-jobs
	$(JESSE_PYTHON) bench/calibration.py $${CARGO_TARGET_DIR:-target}/release/risk-bench

lint: setup ## Check formatting, lints and docs, and licences and scripts where the tools are there
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo 'cargo-deny is not installed: licences not checked'; fi
	@if command -v shellcheck >/dev/null; then shellcheck -x $(SCRIPTS); else echo 'shellcheck is not installed: scripts not checked'; fi

clean: ## Remove what was built, .venv and the demo's data
	cargo clean
	rm -rf .venv data/demo

OLDEST_REDIS = $(CURDIR)/.venv/bin/redis-server
SCRIPTS = $(shell grep -d skip -lE '^\#!.*\bbash' scripts/* demo/* .ci/* deploy/* deploy/haproxy/* deploy/backup/*)
