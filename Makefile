# Everything a newcomer types. Tools go into the user's cache, build products into one target folder outside the checkout.
#
#   make check    formatting, clippy, and every test that needs only Rust
#   make test     every Rust test on real parts, the Python and Node clients, 50 simulated worlds
#   make test-all make test, Spark, MinIO and Garage, 200 more worlds, chaos, instruction counts
#   make lint     formatting, clippy, docs, licences, protobuf style and breaking changes
#   make hooks    run the quick checks before each commit
#   make demo     watch three days of traces travel from ClickHouse to Parquet, and see them compared
#   make up       start everything in the foreground (ROWS=, and the ports below)
#   make sim      simulate COUNT seeds: real services, simulated network, faults; SEED= repeats one
#   make chaos    kill, freeze and restart the real programs ROUNDS times, then compare every row; STORE=postgres, SEED=
#   make servers  install MinIO and Garage, S3 servers that tests write to (needs Go; the first time takes 10 minutes)
#   make bench    measure against ClickHouse's own writer, pyarrow and the bare object store (ROWS=; PART=inline for a part of it)
#   make fuzz     feed the reader of filters nonsense for SECONDS (needs Rust nightly)
#   make advisories   look the dependencies up in the RustSec database (needs the network)

ROWS            ?= 100000
COUNT           ?= 100
SECONDS         ?= 60
ROUNDS          ?= 4
STORE           ?= sqlite
GRPC_PORT       ?= 7700
REST_PORT       ?= 7701
CLICKHOUSE_PORT ?= 8123
S3_PORT         ?= 9000

PYTHON          ?= python3
CACHE           ?= $(HOME)/.cache/tracelift
VENV            ?= $(CACHE)/venv
NODE_MODULES    ?= $(CACHE)/node

export CARGO_TARGET_DIR ?= $(CACHE)/target
export TRACELIFT_PYTHON ?= $(VENV)/bin/python
export TRACELIFT_NODE_MODULES := $(NODE_MODULES)/node_modules
export TRACELIFT_MINIO  := $(CACHE)/minio/bin/minio
GARAGE_VERSION          := 2.5.0
export TRACELIFT_GARAGE := $(CACHE)/garage-$(GARAGE_VERSION)/bin/garage
export TRACELIFT_BIN    := $(CARGO_TARGET_DIR)/debug
export PYTHON
export PYTHONDONTWRITEBYTECODE := 1

UP = --rows $(ROWS) --grpc-port $(GRPC_PORT) --rest-port $(REST_PORT) --clickhouse-port $(CLICKHOUSE_PORT) --s3-port $(S3_PORT)

.PHONY: help install install-node install-spark install-bench build build-demo release stages up demo sim chaos servers bench instructions-record fuzz \
	check test test-all test-rest test-rust-only test-slow-line test-rust test-clients test-servers test-sim test-more-sim test-chaos test-instructions \
	lint fmt clippy doc deny proto advisories hooks clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   make/  make/p' Makefile

# ---- what is needed -------------------------------------------------------------------------------------------------

install: $(VENV)/installed

$(VENV)/installed: tests/requirements.txt
	@scripts/needs.sh python
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

# Spark, for the tests of docs/loading.md alone: half a gigabyte, a minute to install.
install-spark: $(VENV)/installed-spark

$(VENV)/installed-spark: $(VENV)/installed tests/requirements-spark.txt
	@scripts/needs.sh java
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements-spark.txt
	touch $@

install-bench: $(VENV)/installed-bench

$(VENV)/installed-bench: $(VENV)/installed tests/requirements-bench.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements-bench.txt
	touch $@

install-node: $(NODE_MODULES)/installed

$(NODE_MODULES)/installed: tests/clients/node/package.json tests/clients/node/package-lock.json
	@scripts/needs.sh node
	mkdir -p $(NODE_MODULES)
	cp tests/clients/node/package.json tests/clients/node/package-lock.json $(NODE_MODULES)
	npm ci --loglevel=error --no-audit --no-fund --prefix $(NODE_MODULES)
	touch $@

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY         := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)

$(CARGO_DENY)/bin/cargo-deny:
	cargo install --quiet --locked --no-default-features --root $(CARGO_DENY) --target-dir $(CARGO_TARGET_DIR)/tools cargo-deny@$(CARGO_DENY_VERSION)

CARGO_FUZZ_VERSION := 0.13.2
CARGO_FUZZ         := $(CACHE)/cargo-fuzz-$(CARGO_FUZZ_VERSION)

$(CARGO_FUZZ)/bin/cargo-fuzz:
	cargo install --quiet --locked --root $(CARGO_FUZZ) --target-dir $(CARGO_TARGET_DIR)/tools cargo-fuzz@$(CARGO_FUZZ_VERSION)

# Its newest version in Go's module proxy.
MINIO_VERSION := v0.0.0-20260212201848-7aac2a2c5b7c

servers: $(TRACELIFT_MINIO) $(TRACELIFT_GARAGE)

$(TRACELIFT_GARAGE):
	cargo install --quiet --locked --no-default-features --features bundled-libs,sqlite --root $(CACHE)/garage-$(GARAGE_VERSION) \
		--target-dir $(CACHE)/garage-build garage@$(GARAGE_VERSION)
	rm -rf $(CACHE)/garage-build

$(TRACELIFT_MINIO):
	@scripts/needs.sh go
	GOBIN=$(dir $@) GOFLAGS=-mod=mod go install github.com/minio/minio@$(MINIO_VERSION)

# Cargo run by hand, and an editor that runs it, build where make does. Cargo expands no `~`, so this file cannot be committed: it is
# made once, where it is missing. Before that a plain `cargo test` builds into ./target.
.cargo/config.toml:
	@mkdir -p $(@D)
	@printf '[build]\ntarget-dir = "%s"\n' '$(CARGO_TARGET_DIR)' >$@

build release stages clippy doc test-rust-only test-slow-line test-rust: .cargo/config.toml

# ---- running --------------------------------------------------------------------------------------------------------

build:
	cargo build --locked --workspace --bins

# As operators run it. A quarter of an hour on two processors the first time.
release:
	cargo build --locked --release -p tracelift-exporter -p tracelift-control-plane -p tracelift-gateway -p tracelift -p tracelift-bench --bins

# The programs that the demo runs, with the features that all of the workspace has, so that nothing is built twice.
build-demo: .cargo/config.toml
	cargo build --locked --workspace $(addprefix --bin ,tracelift-control-plane tracelift-exporter tracelift-gateway tracelift up)

up: install build-demo
	@PATH="$(TRACELIFT_BIN):$$PATH" $(TRACELIFT_BIN)/up $(UP)

demo: install build-demo
	@$(TRACELIFT_PYTHON) tests/demo/demo.py $(UP)

sim:
	cargo build --locked --workspace --bins
	@$(TRACELIFT_BIN)/sim --count $(COUNT) $(if $(SEED),--seed $(SEED))

chaos: install
	@$(if $(filter postgres,$(STORE)),scripts/needs.sh postgres)
	cargo build --locked --workspace --bins
	@$(TRACELIFT_BIN)/chaos --rounds $(ROUNDS) --store $(STORE) $(if $(REPLICAS),--replicas $(REPLICAS)) $(if $(SEED),--seed $(SEED))

# Writes target/bench/report.json and report.md. The machine should have nothing else to do.
bench: install-bench servers release
	@scripts/needs.sh postgres
	TRACELIFT_BIN=$(CARGO_TARGET_DIR)/release $(TRACELIFT_PYTHON) tests/bench/bench.py --rows $(if $(filter command%,$(origin ROWS)),$(ROWS),1000000) $(PART)

fuzz: $(CARGO_FUZZ)/bin/cargo-fuzz
	PATH="$(CARGO_FUZZ)/bin:$$PATH" cargo +nightly fuzz run --target-dir $(CARGO_TARGET_DIR)/fuzz filter -- -dict=fuzz/filter.dict -max_len=4096 -max_total_time=$(SECONDS)

# ---- checking -------------------------------------------------------------------------------------------------------

# Each gear builds the whole workspace: another choice of packages would change the features of tokio and others, and compile
# everything that stands on them a second time (docs/adr/0034-gears.md).

check: fmt clippy test-rust-only

test: test-rust test-clients test-sim

test-all: test test-rest

# What test-all runs beyond test.
test-rest: test-servers test-more-sim test-chaos test-instructions

# Tests that need more are `#[ignore = "needs …"]`.
test-rust-only:
	@scripts/needs.sh
	cargo test --locked --workspace

# Six minutes, as it should: twenty megabytes at sixty kilobytes a second. Run it by hand after a change of timeouts.
test-slow-line: install build
	cargo test --locked --workspace --test it -- --ignored twenty_megabytes_pass_at_sixty_kilobytes_a_second

# All tests but that one.
test-rust: install build
	@scripts/needs.sh postgres
	cargo test --locked --workspace -- --include-ignored --skip twenty_megabytes_pass_at_sixty_kilobytes_a_second

# Together these two run every Python test; the search for secrets is in both, as each leaves other things behind.
SERVERS := spark or minio or garage
PYTEST  := $(TRACELIFT_PYTHON) -m pytest -q

test-clients: install install-node build
	@scripts/needs.sh node curl
	$(PYTEST) -m 'not ($(SERVERS))' tests/support/clickhouse tests/clients/python

test-servers: install install-spark build servers
	@scripts/needs.sh java
	$(PYTEST) -m '$(SERVERS) or secrets' tests/clients/python

# Half a second for a world on two processors, each time with other seeds.
test-sim:
	@$(MAKE) --no-print-directory sim COUNT=50

test-more-sim:
	@$(MAKE) --no-print-directory sim COUNT=200

# Against MinIO, as it is installed then.
test-chaos: servers
	@$(MAKE) --no-print-directory chaos ROUNDS=2
	@$(MAKE) --no-print-directory chaos ROUNDS=2 STORE=postgres REPLICAS=2

# The hot pure parts of the data path, as released: no more than a tenth more instructions than are recorded.
test-instructions: stages
	$(PYTHON) tests/bench/instructions.py $(CARGO_TARGET_DIR)/release/stages

instructions-record: stages
	$(PYTHON) tests/bench/instructions.py $(CARGO_TARGET_DIR)/release/stages --record

stages:
	@scripts/needs.sh python valgrind
	cargo build --locked --release -p tracelift-bench --bin stages

lint: fmt clippy doc deny proto

fmt:
	@scripts/needs.sh clippy
	cargo fmt --check

clippy:
	@scripts/needs.sh clippy
	cargo clippy --locked --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet

deny: $(CARGO_DENY)/bin/cargo-deny
	$(CARGO_DENY)/bin/cargo-deny --locked check bans licenses sources

advisories: $(CARGO_DENY)/bin/cargo-deny
	$(CARGO_DENY)/bin/cargo-deny --locked check advisories

BUF := $(NODE_MODULES)/node_modules/.bin/buf

proto: install-node
	$(BUF) lint proto
	@tag=$$(git describe --tags --abbrev=0 2>/dev/null) || { echo "buf breaking: not checked, there is no tag to compare with"; exit 0; }; \
		echo "buf breaking proto against $$tag"; $(BUF) breaking proto --against "$$(git rev-parse --git-common-dir)#tag=$$tag,subdir=proto"

hooks:
	git config core.hooksPath scripts/hooks

# ---- documentation --------------------------------------------------------------------------------------------------

#   make docs     write the generated parts of docs/configuration.md and docs/cli.md
.PHONY: docs
docs:
	TRACELIFT_UPDATE_DOCS=1 cargo test --locked --workspace --test it -- configuration

clean:
	rm -rf target/dev
