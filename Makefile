# The usual tasks. CMake does the building (see CMakePresets.json); everything made goes to build/.
.DEFAULT_GOAL := build
.PHONY: build demo serve bench test test-all asan tsan fuzz tidy format clean help
MAKEFLAGS += --no-print-directory

build:      ## build the program, build/release/spanwise (installs what is missing)
	@scripts/setup build
	@scripts/build release spanwise

demo: build ## ask the sample documents three questions, cold and warm
	@scripts/demo

serve: build ## start the server on the sample documents
	@build/release/spanwise index examples/documents --corpus build/examples-corpus
	@build/release/spanwise serve --corpus build/examples-corpus

bench: build ## print the benchmark tables
	@scripts/bench

test:       ## build and run the fast tests, with short sanitizer and fuzz runs (what CI runs)
	@scripts/setup build test
	@scripts/test fast

test-all:   ## every test, every test under the sanitizers, longer fuzzing, clang-tidy
	@scripts/setup build test
	@scripts/test all

asan:       ## all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/setup build test
	@scripts/test asan

tsan:       ## all tests under ThreadSanitizer
	@scripts/setup build test
	@scripts/test tsan

fuzz:       ## fuzz each reader of foreign bytes for FUZZ_SECONDS (default 60)
	@scripts/setup build test
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-60} scripts/test fuzz

tidy:       ## run clang-tidy over src/
	@scripts/setup build test
	@scripts/test tidy

format:     ## format the C++ sources in place
	@scripts/setup test
	@git ls-files -z '*.h' '*.cc' | xargs -0 clang-format -i

clean:      ## remove build/
	rm -rf build

help:       ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 12
