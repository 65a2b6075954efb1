# Needs Python (>= 3.10) and make, nothing else: each target makes its own virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COMPILED := setup.py $(wildcard otel_shed/compiled/*.[ch])
# What works otherwise without the compiled parts: the record, on_end, and the encoder that the pipeline uses.
# (test_storm.py is about the pace, and takes as long as half of the others.)
PLAIN_TESTS := tests/test_record.py tests/test_processor.py tests/test_benchmarks.py tests/control/test_gate.py \
  $(filter-out %/test_storm.py,$(wildcard tests/pipeline/test_*.py)) \
  $(patsubst %,tests/otlp/test_%.py,amend encode proof request) tests/test_hot_path.py tests/test_compiled.py \
  tests/faults/test_build.py::test_they_are_in_use_where_they_can_be

.PHONY: test demo lint types clean

$(STAMP): pyproject.toml $(COMPILED)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group test --group lint
	touch $(STAMP)

test: lint types $(STAMP)
	$(BIN)/python -m pytest
	OTEL_SHED_PURE_PYTHON=true $(BIN)/python -m pytest $(PLAIN_TESTS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

demo: $(STAMP)
	$(BIN)/python -m otel_shed demo

clean:
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache .upstream build dist *.egg-info otel_shed/compiled/*.so
