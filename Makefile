# What this project does from the command line. `make` or `make help` lists the targets.

CARGO ?= cargo
XEN ?= 4.20
STORE ?= pvh
BED = target/release/qemu-tests
IMAGE = target/xenstore-stubdom
GUEST = target/ring-guest

.DEFAULT_GOAL := help
include xen-config/install.mk
include xen-config/unix/install.mk

# Seconds for each fuzzer of `make fuzz`.
FUZZ_SECONDS ?= 300
FUZZERS = messages paths permissions ring requests pages

.PHONY: help setup image unix run test test-long check unit bed numbers mutations mutants fuzz bench bench-charts bench-xen fetch clean

help:
	@echo "make run            real Xen in QEMU with our image as its Xenstore, and a dom0 shell on this terminal"
	@echo "make run DEMO=1     the same as a fixed tour without a terminal; exit 0 only if each step worked"
	@echo "                    (both take XEN=4.17|4.20 and STORE=pvh|pv|c)"
	@echo "make test           every test: formatting, lints, unit and property tests, the image, real Xen"
	@echo "make test-long      what takes longer than a CI run should"
	@echo "make image          target/xenstore-stubdom, .gz, .symbols, target/xenstore-stubdom-pv (PV only), and -watcher for dom0;"
	@echo "                    target/ring-guest, the small guest of the tests"
	@echo "make install        puts them on a host, with Debian's switch and the guide (PREFIX, DESTDIR); make uninstall"
	@echo "make unix           target/xenstored-unix, the same server as a daemon on a Unix socket; make install-unix, uninstall-unix"
	@echo "make numbers        start-up time, sizes and memory, measured on real Xen"
	@echo "make bench          our server beside Debian's C xenstored and oxenstored: a table, target/bench/bench.json and charts, in four"
	@echo "                    parts: BENCH='--parts process' in process (ns, instructions, bytes), 'start' (first reply, recovery),"
	@echo "                    'socket' (1 to 5,000 clients), 'rings' (up to 4,000 domains; long: C xenstored needs a quarter of a"
	@echo "                    millisecond for a WRITE at 1,000; BENCH='--parts rings --domains 10,1000 --watches 0 --storm 50' for minutes)"
	@echo "                    BASE=<commit> adds that commit's server with ratios, in the parts that it has programs for"
	@echo "make bench-charts   copies the charts of the last bench that the README shows"
	@echo "make bench-xen      the same on real Xen, our image as PV and PVH, and the daemons in dom0: tables and target/bench-xen/bench.json"
	@echo "                    (most of an hour; BENCH_XEN='--boots 1 --parts rows' for minutes)"
	@echo "make check          formatting and lints only"
	@echo "make fuzz           extra, needs nightly Rust and cargo-fuzz: each fuzzer for FUZZ_SECONDS ($(FUZZ_SECONDS));"
	@echo "                    make test runs the same with the corpus that was found so"
	@echo "make mutants        makes small changes to the core, mechanically; those of the quota and permission code must all be noticed"
	@echo "                    (by the model test, or by the test that is named for them), the rest are shown (part of test-long)"
	@echo "make mutations      breaks a copy of the sources in each way that the tests promise to notice (part of test-long)"
	@echo "make clean          removes target/ (the cache of downloads stays)"

# What building and testing need that Rust does not bring: a linker, QEMU, Xen's headers.
setup:
	@sh qemu-tests/setup.sh

image: setup
	@echo "== building the image"
	$(CARGO) build --locked --release -p boot --features image,guest
	@mkdir -p target
	cp target/release/xenstore-stubdom $(IMAGE).symbols
	strip -o $(IMAGE).unchecked $(IMAGE).symbols
	$(CARGO) run --locked --release -q -p image-check -- $(IMAGE).unchecked --write-pv $(IMAGE)-pv
	mv $(IMAGE).unchecked $(IMAGE)
	gzip -9 -n -c $(IMAGE) > $(IMAGE).gz
	strip -o $(GUEST).unchecked target/release/ring-guest
	$(CARGO) run --locked --release -q -p image-check -- $(GUEST).unchecked
	mv $(GUEST).unchecked $(GUEST)
	$(CARGO) build --locked --release -p store-watcher
	strip -o $(IMAGE)-watcher target/release/xenstore-stubdom-watcher
	@ls -l $(IMAGE) $(IMAGE).gz $(IMAGE)-pv $(IMAGE)-watcher $(GUEST)

$(BED): FORCE
	@$(CARGO) build --locked --release -p qemu-tests -p store-watcher
FORCE:

unix:
	$(CARGO) build --locked --release -p xenstored-unix
	@mkdir -p target
	strip -o target/xenstored-unix target/release/xenstored-unix
	@ls -l target/xenstored-unix

run: image $(BED)
ifeq ($(DEMO),)
	@$(BED) shell --xen $(XEN) --store $(STORE)
else
	@$(BED) demo --xen $(XEN) --store $(STORE)
endif

check: setup
	@echo "== formatting and lints"
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --release -p boot --features image,guest -- -D warnings

# One of the servers that ours is compared with is of Debian 13: it is among the parts of the beds.
unit: setup install-test install-unix-test fetch
	@echo "== unit and property tests"
	$(CARGO) test --locked --workspace

# On every Xen and in both forms what everything else rests on; the rest once. `make test-long` runs all of it everywhere.
QUICK = self-test first-light refuses-to-start survives@4.20 crashes-few@4.20/pvh \
	hostile@4.20/pvh lifecycle@4.20/pvh devices@4.20/pvh hvm@4.20/pvh hvm-reset@4.20/pv crowd@4.20/pvh grows@4.20/pvh \
	unprivileged@4.20/pvh watcher@4.20/pvh self-test-guest@4.20/pvh numbers@4.20/pvh

bed: image $(BED)
	@echo "== real Xen"
	@$(BED) run $(QUICK)

test: check unit bed
	@echo "== all tests passed"

# Streams of the crash simulator: so many come to 10⁸ crash points. In the build that is delivered; `make test` has its million with every
# arithmetic check. They take about two hours of one processor (all there are work).
CRASH_SEEDS ?= 4200

test-long: check unit image $(BED)
	@echo "== every scenario on every Xen, in both forms"
	@$(BED) run
	@$(BED) run crashes@4.20/pvh crashes@4.20/pv crashes@4.17/pvh restart-times@4.20/pvh
	@$(BED) run crowd-300@4.20/pvh debian first-light@all/c first-light@all/ocaml unprivileged@all/c \
		traces@4.20/c traces@4.20/pvh traces@4.20/pv
	$(CARGO) test --locked -p cost-tests --test growth -- --ignored --nocapture
	XENSTORE_SEEDS=100 $(CARGO) test --locked -p peer-tests --test differential
	XENSTORE_KILLS=200 $(CARGO) test --locked -p xenstored-unix --test daemon a_kill_under_load_loses
	XENSTORE_SEEDS=100 $(CARGO) test --locked -p fuzz-entry --test corpus
	$(CARGO) test --locked -p cost-tests --test longest -- --ignored --nocapture
	XENSTORE_FIRST=1000 XENSTORE_SEEDS=$(CRASH_SEEDS) $(CARGO) test --locked --release -p crash-tests --test every_store a_crash_before_any_store -- --nocapture
	@$(MAKE) --no-print-directory mutations
	@$(MAKE) --no-print-directory mutants
	@echo "== all long tests passed"

mutations:
	@echo "== changes that tests must notice"
	$(CARGO) run --locked -q -p mutations

# Small changes to the core, made mechanically, against the model test. Fails if one of the quota and permission code is not noticed.
mutants:
	$(CARGO) run --locked --release -p model-tests --features mutants --bin mutants

# New inputs go to fuzz/found; the committed corpus is read only.
fuzz:
	@for fuzzer in $(FUZZERS); do \
		mkdir -p fuzz/found/$$fuzzer && \
		$(CARGO) +nightly fuzz run --fuzz-dir fuzz $$fuzzer fuzz/found/$$fuzzer fuzz/corpus/$$fuzzer -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=4096 -rss_limit_mb=4096 || exit 1; \
	done

numbers: image $(BED)
	@$(BED) numbers --xen $(XEN) --store $(STORE)

# BENCH has options of store-bench, see `target/release/store-bench --help`. BASE is measured in each part that it has programs for.
BENCH ?=
bench: setup fetch
	$(CARGO) build --locked --release -p store-bench -p xenstored-unix
ifneq ($(BASE),)
	@rm -rf target/base && git worktree prune && git worktree add --detach -f target/base $(BASE)
	cd target/base && $(CARGO) build --locked --release -p store-bench -p xenstored-unix --target-dir ../base-build
endif
	@mkdir -p target/bench
	target/release/store-bench --json target/bench/bench.json --charts target/bench $(BENCH) \
		$(if $(BASE),--base target/base-build/release)

# The charts of the last `make bench` that the README shows.
CHARTS = write-against-domains storm-against-vms in-process-against-nodes recovery-against-nodes
bench-charts:
	@mkdir -p crates/store-bench/charts
	cp $(CHARTS:%=target/bench/%.svg) crates/store-bench/charts/

# BENCH_XEN has options of it, see `target/release/qemu-tests bench --help`.
BENCH_XEN ?=
bench-xen: image $(BED)
	@$(BED) bench --json target/bench-xen/bench.json $(BENCH_XEN)

fetch: $(BED)
	@$(BED) fetch

clean:
	$(CARGO) clean
