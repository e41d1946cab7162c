# make venv   create .venv and install everything at the pinned versions
# make test   ruff, the type checker, the documentation (warnings are errors) and pytest
# make study  run the quick preset of the studies and draw their figures
PYTHON ?= python3
BIN := .venv/bin
# One BLAS thread a process: processes are the unit of parallel work, and two threads each were slower.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.PHONY: venv test lint types docs unit study clean

venv: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "eeqs needs Python >= 3.11; run make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

test: lint types docs unit

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/mypy

docs: venv
	$(BIN)/python -m sphinx -j 2 -W --keep-going -q -b html docs docs/_build/html

unit: venv
	$(BIN)/python -m pytest -n auto --dist loadfile -q

# A run that was interrupted goes on; a claim that fails still gets its figures, and fails the target after them.
study: venv
	$(BIN)/python -m simulations run rates --preset quick --out results/rates-quick --resume; status=$$?; \
	  [ $$status -le 1 ] && $(BIN)/python -m paper_figures --from results/rates-quick --out results/figures && exit $$status

clean:
	rm -rf .venv build dist docs/_build docs/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
