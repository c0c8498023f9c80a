# Everything starts from here: `make demo`, `make test`. Needs Python 3.11 or later and make; set-up happens by itself.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := compressor serving benchmarks

.DEFAULT_GOAL := help
.PHONY: help install demo headline test test-slow lint format wheel constraints clean

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## Make the virtual environment and install everything at the versions of constraints.txt.

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; make PYTHON=... names one")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve-cpu,train,bench,dev]'
	@touch $@

demo: $(STAMP)  ## Train, distil, export and measure on the embedded corpus, for both tasks.
	$(BIN)/compress demo --out demo --force

headline: $(STAMP)  ## Measure the German-English example beside its teacher, here and in CTranslate2.
	$(BIN)/compress bench examples/de-en --teacher examples/de-en-teacher --peers ctranslate2 \
	    --source examples/sentences.jsonl --batch-size 1 --num-beams 1,5 --sentences 40 --markdown -

test: $(STAMP)  ## The default test suite, one process a core (four at most).
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: $(STAMP)  ## What takes longer or installs more.
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)  ## ruff, mypy --strict and hadolint.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(PACKAGES)
	$(BIN)/hadolint Dockerfile

format: $(STAMP)  ## Format the code and sort its imports.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(STAMP)  ## Build dist/*.whl.
	$(BIN)/python -m build --wheel --outdir dist .

# Local version suffixes (+cpu) are dropped; the GPU build of ONNX Runtime lags behind the CPU one.
constraints: $(STAMP)  ## Write what is installed to constraints.txt.
	{ sed '/^[^#]/,$$d' constraints.txt; $(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/+cpu$$//'; \
	  grep '^onnxruntime-gpu' constraints.txt; } > constraints.tmp && mv constraints.tmp constraints.txt

clean:  ## Remove what was made here, the virtual environment included.
	rm -rf $(VENV) build dist demo *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
