.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
LOWEST := .venv-lowest
LOWEST_STAMP := $(LOWEST)/.setup-done
MANIFEST := src/napari_siren/napari.yaml
OUT ?= out
QUICK := tests/core/image tests/core/network tests/core/forward tests/core/field tests/core/preprocessing \
	tests/core/settings/test_config.py tests/core/settings/test_presets.py tests/core/test_device.py \
	tests/io tests/layers tests/test_walls.py

# mkdocs-material prints a notice about its successor on every build; this is its own switch for that.
export NO_MKDOCS_2_WARNING := 1

.PHONY: help setup fit quick test test-lowest test-install lint docs screenshots bench clean

help:  ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Create .venv and install the package with its development tools
	@.ci/system-packages

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install --no-compile -c constraints.txt -e ".[dev]"
	@# Compile with all processors; pip would take one. Some packages have templates that are no valid Python.
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

fit: setup  ## Fit the sample image and write the result to out/
	$(BIN)/napari-siren fit --sample --overwrite -o $(OUT)

quick: setup  ## Run the tests that need no window, no other process and no long fit
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(QUICK)

# Each of the two processes of pytest has a core. Programs that the tests start read their modules as bytecode.
test: export OMP_NUM_THREADS = 1
test: export PYTHONDONTWRITEBYTECODE =
test: lint  ## Run every check: lint, types, tests, documentation
	$(BIN)/python -m pytest -n 2 --dist loadfile

# pip has no option for the lowest versions, so constraints-lowest.txt names them, and a test holds it against
# pyproject.toml. Without napari and Qt, which ask for more, so that it is the core's bounds that are tried: tests that
# import napari are left out, and so are the options of pytest's plugins for Qt and the screen, hence no strict config.
# What old releases warn of is not ours to mend.
test-lowest: $(LOWEST_STAMP)  ## Run the tests that need no window with the oldest dependencies, in .venv-lowest
	$(LOWEST)/bin/python -m pytest -x -q -o addopts=--import-mode=importlib -W ignore --ignore=tests/ui \
		$$(grep -rlE '^(from|import) napari[ .]' tests --include='test_*.py' | sed 's/^/--ignore=/')

$(LOWEST_STAMP): pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --upgrade pip
	$(LOWEST)/bin/python -m pip install -c constraints-lowest.txt -e ".[batch,zarr]" \
		hypothesis "ngff-zarr[validate]" ome-types pytest
	@touch $@

test-install:  ## Install the package with each extra into fresh environments, and run its commands there (slow)
	PYTHON=$(PYTHON) .ci/test-install

lint: setup  ## Check style, formatting, types and the plugin's manifest
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/npe2 validate $(MANIFEST)

docs: setup  ## Build the documentation into build/site
	$(BIN)/mkdocs build --strict

screenshots: setup  ## Take the pictures of napari's window for README and documentation
	$(BIN)/python docs/figures/screenshots.py

bench: setup  ## Run the fitting benchmark
	$(BIN)/python -m benchmarks.fit

clean:  ## Remove the environments and everything that was built
	rm -rf $(VENV) $(LOWEST) $(OUT) build dist site htmlcov .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
