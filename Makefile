# Two commands do everything on a fresh machine: make quickstart, make test.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
SWEEP = sweeps/quickstart-$(shell date +%Y%m%d-%H%M%S)

.PHONY: quickstart test test-fast lint format benchmarks clean

quickstart: $(STAMP) ## install, run a small sweep on bundled digits, write its report
	@set -e; sweep=$(SWEEP); \
	$(BIN)/rdsweep launch configs/quickstart.yaml --output $$sweep; \
	$(BIN)/rdsweep report $$sweep

test: $(STAMP) ## every test; the slow ones too in CI
	$(BIN)/python -m pytest -n 2 --dist loadfile $(if $(CI),,-m "not slow")

lint: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

benchmarks: $(STAMP) ## the measured claims that need no data set, each a ratio within its run
	@set -e; for name in training coding threads tracking quickstart; do \
	echo "== $$name"; $(BIN)/python tests/benchmarks/$$name.py; done

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info
