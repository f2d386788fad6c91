# `make train` and `make test` set up everything they need, then do what they say.
PYTHON ?= python3
BIN := .venv/bin
# Pinned by name first: a CPU build of exactly this version is small, an open range is gigabytes.
TORCH := torch==2.13.0
# The build backend comes pinned too, hence no isolated build, which would ignore the constraints.
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
ARGS ?=

.PHONY: help train test check clean

help:
	@echo "make train [ARGS='--steps 100']   train on the Python standard library, report, sample"
	@echo "make test                         run the test suite"
	@echo "make check                        format, lint, types, import contract, size budgets"
	@echo "make clean                        remove .venv and caches; runs/ stays"

train: .venv/train.stamp
	$(BIN)/bit-transformer train $(ARGS)

test: .venv/dev.stamp
	scripts/install_chromium
	scripts/test

check: .venv/dev.stamp
	scripts/check

.venv/torch.stamp: constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install -c constraints.txt $(TORCH) hatchling editables
	@touch $@

.venv/train.stamp: .venv/torch.stamp pyproject.toml
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[train]'
	@touch $@

.venv/dev.stamp: .venv/torch.stamp pyproject.toml
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@ .venv/train.stamp

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
