# Every target is complete from a fresh clone: it makes the virtual environment first if it is missing or stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup run test check format bench bench-window guide clean

setup: $(STAMP)

$(STAMP): pyproject.toml requirements-torch.txt packaging/system_libraries.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-torch.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements-torch.txt -e '.[dev]'
	sh packaging/system_libraries.sh
	touch $(STAMP)

run: setup
	$(BIN)/rooftop

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: check
	QT_QPA_PLATFORM=offscreen $(BIN)/pytest -q

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m engine bench --model guide

bench-window: setup
	$(BIN)/python -m app.bench

guide: setup
	$(BIN)/python -m resources.guide_training.train --out build/guide
	$(BIN)/python -m resources.guide_training.evaluate --model build/guide

clean:
	rm -rf $(VENV) build
