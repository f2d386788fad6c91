# `make train` and `make test` install everything they need into .venv first.
PYTHON ?= python3
BIN := .venv/bin
# Installed first and pinned: this version has a small CPU build; an open range gets gigabytes.
TORCH := torch==2.13.0
# The build backend is pinned too. An isolated build would ignore the constraints, so there is none.
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
ARGS ?=

.PHONY: help train test check clean

help:
	@echo "make train [ARGS='--steps 100']   train on the Python standard library"
	@echo "make test                         run the test suite"
	@echo "make check                        format, lint, types, import contract, size budgets"
	@echo "make clean                        remove .venv and caches, keep runs/"

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
