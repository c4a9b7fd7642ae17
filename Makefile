# Everything a developer or a user does here, one word each. The first call sets up .venv from the locked packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TYPED := $(sort $(wildcard otelbridge/*.pxd otelbridge/*/*.pxd))
FASTPATH := hatch_build.py $(sort $(wildcard otelbridge/*/*.pyx)) $(TYPED) $(wildcard $(TYPED:.pxd=.py))
RUN := $(VENV)/.run-$(shell cat locks/run.txt pyproject.toml $(FASTPATH) | cksum | cut -d' ' -f1)
BENCH := $(VENV)/.bench-$(shell cat locks/bench.txt | cksum | cut -d' ' -f1)
DEV := $(VENV)/.dev-$(shell cat locks/dev.txt pyproject.toml $(FASTPATH) | cksum | cut -d' ' -f1)
# In locks/run.txt for building the wheel; not in the product (Dockerfile names the same).
BUILD_ONLY := hatchling editables cython trove-classifiers packaging pathspec pluggy tomlkit
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: setup demo test lint proto docs picture lock collector jaeger backends peers k8s bench guard torture mutants sbom cluster clean fuzz sanitized

setup: $(DEV) ## .venv with everything that development needs

demo: $(RUN) ## the whole road on this machine: simulator -> bridge -> OTLP endpoint
	$(BIN)/otelbridge demo

test: export PYTHONDONTWRITEBYTECODE :=
test: $(DEV) ## the everyday suite, under five minutes
	$(BIN)/python -m pytest -n 8 --maxschedchunk 4 -m "not torture and not collector and not jaeger and not image and not prometheus and not cluster and not systemd and not wheel and not backends" $(ARGS)

lint: $(DEV) ## style, types and the import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	! $(BIN)/vulture | grep "^otelbridge/"

proto: $(DEV) ## otelbridge/pb from proto/
	$(BIN)/python -m grpc_tools.protoc -Iotelbridge/pb=proto --python_out=. --pyi_out=. --grpc_python_out=. proto/kubearmor.proto

docs: $(DEV) ## the generated tables of the documentation
	$(BIN)/python docs/generate.py

picture: $(DEV) ## the status page's pictures in four states, from real runs; needs Chromium
	$(BIN)/python -m docs.images.make

collector: ## the genuine OpenTelemetry Collector, built from Go modules
	tests/collector/build

cluster: ## a genuine Kubernetes control plane, kubectl, helm and kube-score, built from Go modules; 10 to 20 minutes
	tests/cluster/build

jaeger: ## the genuine Jaeger, built from its Go module
	tests/peers/build jaeger

backends: ## genuine back ends: Prometheus 3, VictoriaLogs and VictoriaMetrics from Go modules, OpenSearch and Kafka from Maven
	tests/peers/build prometheus promtool victorialogs victoriametrics
	tests/peers/jars/assemble

peers: $(BIN)/python ## what the tests run and never import: rotel, another collector; ClickHouse's engine; axe, which judges the status page
	rm -rf build/peers
	$(PIP) install --no-deps --require-hashes --target build/peers -r locks/peers.txt
	npm install --silent --no-save --prefix tests axe-core@4.14.1

k8s: $(DEV) ## the dashboards, the schema of the chart's values, and the rendered examples under k8s/rendered
	$(BIN)/python -m k8s.dashboards.generate
	$(BIN)/python -m k8s.values_schema
	$(BIN)/python tests/deploy/rendering.py

bench: $(BENCH) ## benchmarks/results.json, its tables and pictures; ARGS=--quick in two minutes
	$(BIN)/python -m benchmarks.run $(ARGS)

guard: $(DEV) ## what the hot path does for an event, counted and stored for the tests to compare with
	$(BIN)/python -m benchmarks.guard --renew $(ARGS)

torture: $(DEV) ## the long fault campaigns; writes torture.json
	$(BIN)/python -m pytest -m torture -p no:randomly --timeout 3600 $(ARGS)

sbom: $(RUN) ## build/otelbridge.cdx.json: what the locked packages are, with versions and licences, as CycloneDX
	rm -rf build/sbom
	$(PYTHON) -m venv build/sbom/tool
	build/sbom/tool/bin/pip install --quiet --require-hashes --only-binary=:all: -r locks/sbom.txt
	$(PYTHON) -m venv --without-pip build/sbom/product
	$(BIN)/python -m pip --python build/sbom/product/bin/python install --quiet --require-hashes --only-binary=:all: -r locks/run.txt
	$(BIN)/python -m pip --python build/sbom/product/bin/python uninstall --quiet -y $(BUILD_ONLY)
	build/sbom/tool/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o build/otelbridge.cdx.json build/sbom/product/bin/python

lock: $(DEV) ## the lock files from pyproject.toml
	$(PIP) install uv
	$(BIN)/uv pip compile pyproject.toml --group build --universal --generate-hashes --no-annotate --no-header -q -o locks/run.txt
	$(BIN)/uv pip compile pyproject.toml --group build --group test --group lint --group proto --group deploy --universal --generate-hashes --no-annotate --no-header -q -o locks/dev.txt
	$(BIN)/uv pip compile --group bench -c locks/dev.txt --universal --generate-hashes --no-annotate --no-header -q -o locks/bench.txt
	$(BIN)/uv pip compile --group sbom --universal --generate-hashes --no-annotate --no-header -q -o locks/sbom.txt
	$(BIN)/uv pip compile --group release --universal --generate-hashes --no-annotate --no-header -q -o locks/release.txt
	$(BIN)/uv pip compile --group fuzz -c locks/dev.txt --universal --generate-hashes --no-annotate --no-header -q -o locks/fuzz.txt
	$(BIN)/uv pip compile --group mutants -c locks/dev.txt --universal --generate-hashes --no-annotate --no-header -q -o locks/mutants.txt
	$(BIN)/uv pip compile --group peers --no-deps --universal --generate-hashes --no-annotate --no-header -q -o locks/peers.txt

fuzz: $(DEV) ## coverage-guided fuzzing of events, settings, answers and queue files for SECONDS (30) each; what it finds is left in build/fuzz
	$(PIP) install --require-hashes -r locks/fuzz.txt
	set -e; for target in $(or $(TARGETS),event settings answers queue); do \
		mkdir -p build/fuzz/$$target; \
		$(BIN)/python -m tests.fuzz.campaign $$target -max_total_time=$(or $(SECONDS),30) -timeout=60 -rss_limit_mb=1024 -artifact_prefix=build/fuzz/$$target- build/fuzz/$$target tests/fuzz/corpus/$$target; \
	done

sanitized: $(DEV) ## the compiled encoder's tests under the address and undefined-behaviour sanitizers
	$(BIN)/python -m tests.sanitized $(ARGS)

mutants: $(DEV) ## how many small changes of the walk its tests notice; writes mutants.json
	$(PIP) install --require-hashes -r locks/mutants.txt
	$(BIN)/python tests/mutants/run.py $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(RUN): | $(BIN)/python
	$(PIP) install --require-hashes -r locks/run.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(BENCH): $(DEV)
	$(PIP) install --require-hashes -r locks/bench.txt
	touch $@

$(DEV): | $(BIN)/python
	$(PIP) install --require-hashes -r locks/dev.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@ $(RUN)
