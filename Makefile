# Two commands are enough: `make demo` and `make test`. Both make .venv first.
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest --quiet

.PHONY: demo test quick lint types slow crash crash-matrix mutants distributed notebook browser nightly docs quotes dist pictures tutorial-outputs bench all clean

demo: $(VENV)/demo-ready
	$(BIN)/plainloop demo

# mypy takes a core for a minute, so that it runs beside the tests.
test: lint
	$(MAKE) --jobs 2 --output-sync types quick

quick: $(VENV)/ready
	$(PYTEST) --numprocesses 2 --dist worksteal -m "not slow and not crash and not distributed and not notebook and not browser and not nightly"

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell src docs examples notebooks benchmarks train.py *.md

types: $(VENV)/ready
	$(BIN)/mypy

# What takes longer than a few seconds each: the pages' commands, the packages, the real GLUE files.
slow: $(VENV)/ready
	$(PYTEST) --numprocesses 2 --dist worksteal -m "slow and not crash and not distributed and not nightly"

# Real kills of real runs.
N := 30
crash: $(VENV)/ready
	$(BIN)/python tests/crash/crash.py --kills $(N)

# Every kind of run stopped at every place: 32 cases, of which the tests do 8.
crash-matrix: $(VENV)/ready
	$(BIN)/python tests/crash/matrix.py

# 300 small changes of the training's core, each of which its tests must notice: hours. What has been
# run is not repeated; delete build/mutants after a change of the source.
mutants: $(VENV)/ready
	$(BIN)/python -m pip install --quiet mutmut==3.8.1
	$(BIN)/python tests/mutation.py

# Real runs of several processes, by each way to launch them.
distributed: $(VENV)/ready
	$(PYTEST) --numprocesses 2 --dist worksteal -m "distributed and not nightly"

# The notebook in a real kernel.
notebook: $(VENV)/ready
	$(PYTEST) -m notebook

# Reports in a real Chromium, where there is one: apt-get install chromium.
browser: $(VENV)/ready
	$(PYTEST) -m browser

# Longer versions of what CI runs. Of a commit, what has passed is not repeated: run it again to go on.
NIGHT := build/nightly/$(shell git rev-parse --short HEAD)
nightly: $(NIGHT)-tests $(NIGHT)-matrix $(NIGHT)-kills

$(NIGHT)-tests: $(VENV)/ready
	$(PYTEST) --numprocesses 2 --dist worksteal -m nightly
	mkdir -p $(@D) && touch $@

$(NIGHT)-matrix: $(VENV)/ready
	$(MAKE) crash-matrix
	mkdir -p $(@D) && touch $@

$(NIGHT)-kills: $(VENV)/ready
	$(MAKE) crash N=300
	mkdir -p $(@D) && touch $@

# The site, into build/site; any warning fails it. The variable silences an advertisement.
docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# After a quoted file has changed: line numbers, the loop in the README, the reference.
quotes: $(VENV)/ready
	$(BIN)/python docs/quote.py
	$(BIN)/python docs/reference.py

# The wheel, into dist/: pip install 'dist/plainloop-0.1.0-py3-none-any.whl[demo,report]'
dist: $(VENV)/ready
	$(BIN)/python -m build --wheel --outdir dist

# The pages' pictures and the numbers of recorded runs: about 8 minutes, on an idle machine with Chromium.
pictures: $(VENV)/ready
	$(BIN)/python docs/record.py

# What the tutorial's blocks print with the real MRPC: about 12 minutes, on an idle machine.
tutorial-outputs: $(VENV)/ready
	$(BIN)/python docs/record.py --parts tutorial --glue $(GLUE)

# Beside the Trainer and the tutorial's loop, into docs/performance.md; hours, on an idle machine.
GLUE := $(wildcard ../shared/data/glue)
bench: $(VENV)/ready
	PYTHONPATH=benchmarks $(BIN)/python -m speed $(if $(GLUE),--data-dir $(GLUE)) --page docs/performance.md

all: test docs slow crash distributed notebook browser

# The pinned CPU build. For a GPU install the torch of its platform instead.
# pip compiles all of 23,000 files otherwise, for minutes; Python compiles the few that it imports.
INSTALL = $(BIN)/python -m pip install --no-compile --constraint constraints.txt --editable
$(VENV)/demo-ready: pyproject.toml constraints.txt
	@echo "Making $(VENV) with what the demo needs: a few minutes, once."
	python3 -m venv $(VENV)
	$(INSTALL) '.[demo,report]'
	touch $@

$(VENV)/ready: $(VENV)/demo-ready
	@echo "Adding what the tests and the docs need to $(VENV): a few minutes, once."
	$(INSTALL) '.[demo,report,docs,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist runs
