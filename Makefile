# `make demo` and `make test` need nothing but Python 3.11, pip and make.
VENV := .venv
VLLM := .venv-vllm
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test test-lab test-vllm test-page vllm check bench docs clean

demo: $(VENV)/.core
	$(BIN)/pointsman demo

# A process for each core, up to four: each takes 2 GB. One that is done takes from the others.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL) tests --ignore tests/lab --ignore tests/vllm \
	    --ignore tests/server/test_page.py

# The screen renderer and the pocket's pretraining, up to a rebuild of the whole pocket.
test-lab: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL) tests/lab

# Adapters and `auto` in a real vLLM, which has an environment of its own: 3.5 GB on disk.
test-vllm: $(VENV)/.dev vllm
	$(BIN)/python -m pytest tests/vllm

# The server's page in a real Chromium: the one that is there, else Debian's, else Playwright's.
test-page: $(VENV)/.dev
	$(BIN)/pip install --quiet playwright
	command -v chromium >/dev/null || command -v google-chrome >/dev/null \
	    || { test $$(id -u) = 0 && apt-get update --quiet=2 \
	        && apt-get install --yes --quiet=2 chromium; } \
	    || $(BIN)/playwright install --with-deps chromium
	$(BIN)/python -m pytest tests/server/test_page.py

vllm: $(VLLM)/.made

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python benchmarks/docs_figures.py --check
	$(BIN)/python -m pytest tests/test_docs_links.py

bench: $(VENV)/.dev
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(VLLM) build dist site demo-out pipeline-out

# torch comes first and pinned: a bare `torch`, asked for by another package, is gigabytes of CUDA.
$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.core
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# torchaudio and torchcodec do not load beside a CPU build of torch, and nothing here needs them.
# The package is installed beside it: vLLM finds the plugin by its entry points.
$(VLLM)/.made: tests/vllm/environment/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --requirement $< --editable .
	$(VLLM)/bin/pip uninstall --quiet --yes torchaudio torchcodec
	touch $@
