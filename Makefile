# The door to everything: 'make help'. Wants a Rust toolchain, a C compiler and make; the tests install the rest themselves.

.DEFAULT_GOAL := build
.PHONY: help all build check test test-target test-other demo bench size fuzz install uninstall clean

ARCH := $(patsubst riscv64,riscv64gc,$(shell uname -m))
MUSL := $(ARCH)-unknown-linux-musl
GNU := $(ARCH)-unknown-linux-gnu

# What is built for: musl, because a static musl program starts ten times as fast as a static glibc one. Found out when it is
# first needed, once: the toolchain has the target, or rustup adds it within a minute, or glibc it is.
has = ls "$$(rustc --print target-libdir --target $(1) 2>/dev/null)"/libstd-*.rlib >/dev/null 2>&1
find_target = if $(call has,$(MUSL)) || timeout -k 5 60 rustup target add $(MUSL) </dev/null >/dev/null 2>&1; then echo $(MUSL); \
	else echo 'make: no target $(MUSL), and rustup cannot add it: building static glibc ($(GNU))' >&2; echo $(GNU); fi
TARGET = $(eval TARGET := $(shell $(find_target)))$(TARGET)
# The variant that is not shipped.
OTHER = $(if $(filter $(GNU),$(TARGET)),$(MUSL),$(GNU))

# For another architecture, rustc brings the C library and a linker, if no compiler.
ifneq ($(if $(filter command,$(word 1,$(origin TARGET))),$(filter-out $(ARCH)-%,$(TARGET))),)
export CARGO_TARGET_$(shell echo $(TARGET) | tr a-z- A-Z_)_LINKER ?= rust-lld
endif

CARGO ?= cargo
OUT = $(or $(CARGO_TARGET_DIR),target)
FOR = --locked --release --target $(TARGET)

# Test files that the other variant does without, so that all of 'make test' stays below 15 minutes on two processors: what they
# show does not depend on the C library.
SLOW ?= service capabilities
FAST = $(filter-out $(SLOW),$(basename $(notdir $(wildcard tests/*.rs))))

PREFIX ?= $(HOME)/.local
BKT ?=
FORCE ?=

help: ## this text
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | awk -F '\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@echo '  TARGET=…        forces what is built for ($(MUSL), $(GNU), or for another processor); PREFIX=~/.local and DESTDIR= say where to install'

all: build ## the same as build

build: ## the static executable; leaves a link to it at target/bkt
	$(CARGO) build $(FOR)
	@mkdir -p target && ln -sfn "$(abspath $(OUT))/$(TARGET)/release/bkt" target/bkt
	@ls -lL target/bkt

check: ## format, clippy with warnings as errors, the rules of the house
	$(CARGO) fmt --check
	$(CARGO) clippy $(FOR) --all-targets -- -D warnings
	$(CARGO) clippy $(FOR) --lib --no-default-features -- -D warnings
	$(CARGO) check --quiet --locked --manifest-path fuzz/Cargo.toml --no-default-features --target-dir "$(OUT)/fuzz"
	$(CARGO) test --locked --profile testing --target $(TARGET) --test house

test: ## everything, on both static variants; installs from Debian's packages what the tests need
	tests/install-dependencies
	+@$(MAKE) --no-print-directory test-target TARGET=$(TARGET)
	+@$(MAKE) --no-print-directory test-other TARGET=$(TARGET)

test-target:
	$(CARGO) build $(FOR)
	BKT_TESTED="$(abspath $(OUT))/$(TARGET)/release/bkt" $(CARGO) test --locked --profile testing --target $(TARGET) --no-fail-fast

test-other:
	@if $(call has,$(OTHER)); then set -ex; $(CARGO) build --locked --release --target $(OTHER); \
	BKT_TESTED="$(abspath $(OUT))/$(OTHER)/release/bkt" $(CARGO) test --locked --profile testing --target $(OTHER) --no-fail-fast --lib $(addprefix --test ,$(FAST)); \
	else echo 'make: no target $(OTHER) here: only $(TARGET) was tested' >&2; fi

demo: build ## a host's command, run through a shim from a container, beside the direct run
	tests/demo target/bkt

bench: build ## the table of what a run costs, beside direct execution and other bridges
	$(CARGO) bench --locked --target $(TARGET) --bench '*'

size: ## both static variants, whole and without the tools for people: their sizes, and what 'file' says of them
	@for target in $(MUSL) $(GNU); do \
		if ! $(call has,$$target); then echo "$$target: not in this toolchain"; continue; fi; \
		for features in --no-default-features --features=tools; do \
			$(CARGO) build --quiet --locked --release --target $$target $$features || exit; \
			echo "$$target $$features"; ls -l "$(OUT)/$$target/release/bkt"; done; \
		if command -v file >/dev/null; then file "$(OUT)/$$target/release/bkt"; fi; done

FUZZ_SECONDS ?= 30
fuzz: ## looks for input that breaks the decoders and the session, FUZZ_SECONDS=30 each
	FUZZ_SECONDS=$(FUZZ_SECONDS) fuzz/run

# BKT=FILE installs that executable instead of building one.
install: $(if $(BKT),,build) ## the executable, its names, man pages, completions and shims below PREFIX; reloads a daemon that runs
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" FORCE="$(FORCE)" .make/install "$(or $(BKT),target/bkt)"

uninstall: ## takes away what install made, and nothing else
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" FORCE="$(FORCE)" .make/install --remove

clean: ## takes away what was built
	$(CARGO) clean
	rm -f target/bkt
