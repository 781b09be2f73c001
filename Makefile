# What can be done here; `make` alone lists it. Everything is built in one profile (release), because another would
# compile RocksDB again. CARGO_TARGET_DIR is where things are built, if set.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
BUILT := $(or $(CARGO_TARGET_DIR),target)/release
TOUCHLINE = $(CARGO) run --release --locked --quiet --

.PHONY: help
help: ## List the targets
	@echo 'make TARGET, where TARGET is one of'
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F '|' '{ printf "%-10s %s\n", $$1, $$2 }'

.PHONY: demo
demo: build ## Install what is missing, build, and show who went silent in a real community
	@echo '$$ touchline replay tests/data/kafka-community.jsonl.gz --as-of 2024-10-26T00:00:00Z'
	@$(TOUCHLINE) replay tests/data/kafka-community.jsonl.gz --as-of 2024-10-26T00:00:00Z

.PHONY: test
test: note ## Install what is missing, and run all tests, on a real Kafka and PostgreSQL
	@bash scripts/setup.sh test
	$(CARGO) test --release --workspace --locked

.PHONY: faults
faults: note ## Let faults come TIMES (8) as often as in the tests, under load, for an hour; prints what was sent and came out
	@bash scripts/setup.sh test
	TOUCHLINE_FAULTS=$(or $(TIMES),8) $(CARGO) test --release --workspace --locked --test it -- faults:: --nocapture

.PHONY: upgrade
upgrade: note ## Replace the stages of BEFORE (a commit; the last release) with these, one after the other, under load
	@bash scripts/setup.sh test
	@bash scripts/upgrade.sh $(BEFORE)

.PHONY: simulate
simulate: note ## Run the processor SEEDS (20000) times on simulated brokers, for an hour; a seed that fails is named
	TOUCHLINE_SEEDS=$(or $(SEEDS),20000) $(CARGO) test --release --workspace --locked --lib -- kafka::simulation --nocapture

.PHONY: mutants
mutants: note ## Put bugs into the processor, one at a time, and see that the simulation finds each
	@bash scripts/mutants.sh

.PHONY: fuzz
fuzz: ## Fuzz what reads bytes, each target for SECONDS_EACH (60); what fails is kept
	@bash scripts/setup.sh test
	@SECONDS_EACH=$(or $(SECONDS_EACH),60) bash scripts/fuzz.sh

.PHONY: dev
dev: note ## Run it all on this machine, with Kafka, PostgreSQL and Prometheus, until Ctrl-C
	@bash scripts/setup.sh dev
	$(CARGO) build --release --locked
	@bash deploy/dev/dev.sh $(BUILT)/touchline

.PHONY: lint
lint: ## Check format, lints, documentation, and what we depend on
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --workspace --no-deps --locked
	bash scripts/deny.sh

.PHONY: sbom
sbom: ## Write what touchline is made of, as CycloneDX, to touchline.cdx.json
	bash scripts/sbom.sh > touchline.cdx.json

.PHONY: rules
rules: ## Check and test the alerting rules for Prometheus
	@bash scripts/setup.sh dev
	promtool check rules deploy/prometheus/rules.yml
	promtool test rules deploy/prometheus/rules.test.yml

.PHONY: docs
docs: ## Write docs/metrics.md and docs/configuration.md from the code
	TOUCHLINE_WRITE_DOCS=1 $(CARGO) test --release --workspace --locked --test it -- documented

.PHONY: bench
bench: note ## Measure: events per CPU-second, embedded and on a real Kafka, beside what reading alone reaches
	@bash scripts/setup.sh test
	$(CARGO) bench --bench stages --bench kafka --locked

.PHONY: build
build: setup note ## Build the binary
	$(CARGO) build --release --locked

.PHONY: install
install: build ## Install the binary into ~/.cargo/bin, so that `touchline` works anywhere
	$(CARGO) install --path . --locked --force

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: doc
doc: ## Write the code's documentation, and say where it is
	$(CARGO) doc --release --workspace --no-deps --document-private-items --locked
	@echo 'open $(dir $(BUILT))doc/touchline/index.html'

.PHONY: clean
clean: ## Remove what the tour has written; what is built stays (that is `cargo clean`)
	rm -rf touchline-out acme-out live-out two-months-out load-out my-state
	rm -f acme.jsonl bad.jsonl load.jsonl bad.toml two-months.toml touchline.cdx.json

.PHONY: setup
setup: ## Install what building needs, if anything is missing
	@bash scripts/setup.sh

.PHONY: note
note:
	@ls $(BUILT)/build/librocksdb-sys-*/out/librocksdb.a >/dev/null 2>&1 || \
		echo 'The first build compiles RocksDB and takes 10 to 20 minutes; later ones take seconds.'
