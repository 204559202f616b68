# Everything a newcomer needs: `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
SHARED ?= ../shared
FUZZ_SECONDS ?= 20
COUNT ?= 1000
SEED ?= 0
SOAK ?= 10m
ORDERS ?= 50000
PYTHON ?= python3
CARGO ?= cargo
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release

# Debian packages the build needs: the linker and C++ (openh264), nasm (its fast paths), hwloc.
PACKAGES := build-essential pkg-config nasm libhwloc-dev

.PHONY: help deps build models demo soak kill test interleavings check-kernels test-models differential bench-openvino bench-runtime lint deny bench fuzz-short docs clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

deps: ## Install the system packages that the build needs
	@bash .ci/deps $(PACKAGES)

build: deps ## Build the flowrun command (release)
	@echo "==> building flowrun (a first build takes a few minutes)"
	$(CARGO) build --release -p flowrun

models: build ## Make the demo's INT8 model again from its f32 model
	OUT=out/calibration $(RELEASE)/flowrun run examples/train-demo-detector/scenes.yaml --set sources.scene.count=300
	$(RELEASE)/flowrun model quantize pipelines/demo/detector-fp32.xml --data 'out/calibration/*.jpg' --preprocess pipelines/demo.yaml -o pipelines/demo/detector-int8.xml

demo: build ## Run the detector on the clip that the repository ships
	@echo "==> running pipelines/demo.yaml"
	$(RELEASE)/flowrun run pipelines/demo.yaml
	@echo
	@echo "  out/annotated.avi       the clip with the boxes drawn: open it in any player"
	@echo "  out/detections.jsonl    one line per frame"
	@echo "  out/score.json          recall and precision against the truth, per class"
	@echo
	@echo "What to try next:"
	@echo "  $(RELEASE)/flowrun model inspect pipelines/demo/detector-int8.xml     which layers run in INT8, and with which kernel"
	@echo "  $(RELEASE)/flowrun model inspect pipelines/demo/detector-int8.xml --profile --format html -o out/detector.html   the same as a page for a browser"
	@echo "  $(RELEASE)/flowrun model benchmark pipelines/demo/detector-int8.xml   how fast it is here (and detector-fp32.xml)"
	@echo "  $(RELEASE)/flowrun plan pipelines/demo.yaml                           the workers, their queues and pins"
	@echo "  MODEL=face.xml INPUT=clip.mp4 $(RELEASE)/flowrun run pipelines/faces.yaml   your own network and clip"

test: deps ## Run all tests that need nothing but the repository
	@echo "==> building and running the tests (a first build takes several minutes)"
	$(CARGO) test --workspace

interleavings: deps ## Try $(ORDERS) orders of threads per test over the queues, joins and the resequencer (a thousand in `make test`)
	FLOW_INTERLEAVINGS=$(ORDERS) $(CARGO) test -p flow --test interleavings

check-kernels: deps ## Look in the machine code whether kernels keep their accumulators in registers
	$(CARGO) test -p flow-cpu --test spills $(foreach check,debug-assertions overflow-checks,--config profile.dev.package.flow-cpu.$(check)=false)

test-models: deps ## Run the engine over the real models in $(SHARED)
	@test -d $(SHARED)/models || { echo "test-models: no folder $(SHARED)/models; give it with SHARED=FOLDER"; exit 1; }
	FLOW_SHARED=$(abspath $(SHARED)) $(CARGO) test -p flow-tests --features models --test 'models_*' --test allocations

soak: build ## Run a pipeline under load and faults for $(SOAK), and judge it
	@mkdir -p out
	$(RELEASE)/flowrun soak tests/soak/soak.yaml --duration $(SOAK) --load poisson:20 --chaos default --seed $(SEED) --report out/soak.html

kill: deps ## Kill a run 100 times at random moments and read what it wrote
	FLOW_KILLS=100 FLOW_KILL_SEED=$(SEED) $(CARGO) test -p flow-tests --test kill -- --nocapture

bench-runtime: deps ## Measure the cost of a hop from thread to thread, beside GStreamer's (needs gstreamer1.0-tools)
	@command -v gst-launch-1.0 >/dev/null || { echo "bench-runtime: install gstreamer1.0-tools"; exit 1; }
	$(PYTHON) tests/compare/hop_cost.py

differential: deps ## Compare COUNT random graphs from SEED on with OpenVINO (needs PYTHON with openvino, numpy)
	$(CARGO) build --release -p flow-tests --bin differential
	$(PYTHON) tests/differential/run.py --count $(COUNT) --seed $(SEED) --binary $(RELEASE)/differential

bench-openvino: build ## Compare speed with OpenVINO on the models in $(SHARED) (needs PYTHON with openvino)
	@mkdir -p out
	$(PYTHON) tests/compare/bench_openvino.py $(RELEASE)/flowrun $(wildcard $(SHARED)/models/*.xml) --markdown out/bench-openvino.md

lint: deps ## Check formatting, clippy and documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

deny: ## Check licences and advisories of the dependencies (needs cargo-deny)
	$(CARGO) deny check

bench: build ## Run the benchmarks of the kernels
	$(CARGO) bench --workspace

# A recipe for the engine needs seven bytes before it damages anything: no use in beginning with fewer.
fuzz-short: ## Fuzz each parser for $(FUZZ_SECONDS) seconds (needs cargo-fuzz)
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz
	@set -e; for dir in stages/decode stages/inference/model stages/inference; do \
	  for target in $$(cd $$dir && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz list); do \
	    echo "==> fuzzing $$target for $(FUZZ_SECONDS) s"; \
	    case $$target in engine) length="-len_control=0 -max_len=64";; *) length=;; esac; \
	    (cd $$dir && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 $$length); \
	  done; done

docs: build ## Write docs/config.md and docs/error-codes.md from the code
	$(RELEASE)/flowrun schema --markdown > docs/config.md
	$(RELEASE)/flowrun explain --markdown > docs/error-codes.md

clean: ## Remove what was built
	$(CARGO) clean
	rm -rf out
