# Everything a person or a machine does with this repository. Needs Python >= 3.11 with pip, and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ZOO    := $(VENV)/.installed-zoo
RELEASE := $(VENV)/.installed-release
DOCS    := $(VENV)/.installed-docs
DEMO   := runs/demo
SOURCES := fxgrow tests examples $(wildcard tools)

.DEFAULT_GOAL := help
.PHONY: help venv demo chromium test test-avx2 check format release-check docs notebook bench rbf pays width depth mobile step-time figure4 steady allocation emitted soak fuzz random sweep cells continual specs clean

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

venv: $(STAMP)  ## the virtual environment with everything in it

# Redone only when pyproject.toml changes; the stamp is written last, so an interrupted install is redone too.
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit("fxgrow needs Python >= 3.11; say make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[all]'
	touch $@

# One thread: the network is so small that more would only wait for each other.
demo: export OMP_NUM_THREADS = 1
demo: $(STAMP)  ## grow a small network on real digits, and train it ungrown for as long: does growth pay?
	$(BIN)/fxgrow run specs/recipes/demo.yaml --trust tools.networks --out $(DEMO) --force
	$(BIN)/fxgrow report $(DEMO) --html $(DEMO).html --force
	$(BIN)/python -m tools.experiments.demo

chromium:  ## the browser for the tests of the HTML page (Debian, as root; else nothing)
	tools/install_chromium.sh

test: $(STAMP) chromium  ## all tests (ARGS='-k digits' for some)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# What convolutions do depends on the processor; ONEDNN_MAX_CPU_ISA keeps a newer one to what the oldest runs.
test-avx2: $(STAMP)  ## the tests that learn, with the kernels of processors without AVX-512
	ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest tests/cells tests/training tests/test_kernel_guard.py tests/export/test_python_source.py -n 2 --dist loadfile $(ARGS)

check: $(STAMP)  ## lint, format, types and the figures of the house, changing nothing
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/python tools/style.py

format: $(STAMP)  ## rewrite the sources in house style
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# What builds and checks distributions has a stamp of its own: only a release needs it.
$(RELEASE): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[release]'
	touch $@

release-check: $(RELEASE)  ## build sdist and wheel into dist/, check them, and try the wheel as a user would (two minutes)
	$(BIN)/python tools/release_check.py

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[docs]'
	touch $@

docs: $(DOCS)  ## the documentation as a site in build/site; a link to what is not there is an error (a quarter of a minute)
	$(BIN)/python -m mkdocs build --strict

notebook: $(STAMP)  ## run docs/tutorial.ipynb, and keep what its cells print
	$(BIN)/python -m tools.docs_site.notebook docs/tutorial.ipynb

bench: $(ZOO)  ## what imports, growth and coupling cost (half an hour)
	$(BIN)/python tools/bench_imports.py --out docs/results/bench_imports.json
	$(BIN)/python -W ignore -m tools.bench_coupling --out docs/results/bench_coupling.json
	$(BIN)/python -W ignore -m tools.bench_coupling --llama 8 16 32 64 80 --out docs/results/bench_coupling.json
	$(BIN)/python tools/bench_growth.py --out docs/results/bench_growth.json
	$(BIN)/python -W ignore -m tools.bench_growth --peers --rounds 5 --out docs/results/bench_peers.json

fuzz: $(STAMP)  ## damage models, recipes, histories, runs, masters, genotypes and pictures, and read them (an hour)
	$(BIN)/python tools/fuzz.py --kind specs --count 100000 --seed 0 --out docs/results/fuzz.json
	$(BIN)/python tools/fuzz.py --kind recipes --count 20000 --seed 0 --out docs/results/fuzz_recipes.json
	$(BIN)/python tools/fuzz.py --kind runs --count 5000 --seed 0 --out docs/results/fuzz_runs.json
	$(BIN)/python tools/fuzz.py --kind histories --kind masters --kind genotypes --kind pictures \
		--kind archives --count 5000 --seed 0 --out docs/results/fuzz_kinds.json

random: $(STAMP)  ## widen and grow 5,000 random networks of constructs that are easily broken (about an hour)
	$(BIN)/python -W ignore -m tools.random_search --count 5000 --out docs/results/random.json

rbf: $(STAMP)  ## the toy RBF experiment (20 ground truths, about ten minutes)
	$(BIN)/python tools/experiments/rbf.py --seeds 20 --out docs/results/rbf

pays: $(STAMP)  ## does growth, and choosing neurons, pay? (hours, resumable; DATA_ROOT=folder of cifar-10-batches-py)
	$(BIN)/python -W ignore -m tools.experiments.pays --data-root $(or $(DATA_ROOT),runs/data) --out docs/results/pays

# ARGS='--jobs 2' runs two seeds at a time; what is done already is read from runs/.
width: $(STAMP)  ## Figure 4a: VGG-19 from 16 channels against its rivals (6 CPU-core hours, resumable; DATA_ROOT as for pays)
	$(BIN)/python -W ignore -m tools.experiments.width --data-root $(or $(DATA_ROOT),runs/data) $(ARGS)

depth: $(STAMP)  ## layers by firefly, AutoGrow and NASH at equal FLOPs (two CPU-core hours, resumable)
	$(BIN)/python -W ignore -m tools.experiments.depth --data-root $(or $(DATA_ROOT),runs/data) $(ARGS)

mobile: $(STAMP)  ## MobileNet-V1 and V2 grown from a quarter of their widths (hours, resumable)
	$(BIN)/python -W ignore -m tools.experiments.mobile --model v1 --data-root $(or $(DATA_ROOT),runs/data) $(ARGS)
	$(BIN)/python -W ignore -m tools.experiments.mobile --model v2 --data-root $(or $(DATA_ROOT),runs/data) $(ARGS)

step-time: $(STAMP)  ## Figure 4b: the time of one growth step of every method (ten minutes, resumable)
	$(BIN)/python -W ignore -m tools.experiments.step_time --out docs/results/step_time

figure4: $(STAMP)  ## Figure 4 redrawn from the results that are there
	$(BIN)/python -m tools.experiments.figure4 --out docs/results/figure4.png

steady: $(STAMP)  ## 100 random models, moments and budgets: does training go on steadily after growth? (ten minutes)
	$(BIN)/python -W ignore -m tools.experiments.steady --draws 100 --out docs/results/steady.json

allocation: $(STAMP)  ## where neurons go in networks with a width that is too narrow (five minutes)
	$(BIN)/python -W ignore -m tools.experiments.allocation --out docs/results/allocation.json

emitted: $(STAMP)  ## training steps of grown models beside those written by hand, eager and compiled; memory over 50 growth steps (half an hour)
	$(BIN)/python -W ignore -m tools.bench_emitted --out docs/results/emitted.json

soak: $(STAMP)  ## kill runs at random moments, resume them, compare the bits (three minutes)
	$(BIN)/python tools/soak.py --kills 50 --out docs/results/soak.json

# The model zoos are large and only sweeps and benchmarks need them, so they have a stamp of their own.
$(ZOO): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[zoo,peers]'
	touch $@

sweep: $(ZOO)  ## couple, widen and grow every model of three zoos, and 2,000 random networks (hours; ARGS=--resume)
	$(BIN)/python -W ignore -m tools.sweep --zoo torchvision --zoo lowered --zoo timm --zoo hf --zoo random $(ARGS)
	$(BIN)/python -W ignore -m tools.sweep --zoo torchvision --zoo timm --zoo hf --check grow $(ARGS)
	$(BIN)/python -m tools.coverage

cells: $(STAMP)  ## cells by growth against DARTS and random cells (hours, resumable)
	$(BIN)/python -W ignore -m tools.experiments.cells --out docs/results/cells

continual: $(STAMP)  ## 20 tasks of shapes, ten methods, three seeds (two hours, resumable)
	$(BIN)/python -W ignore -m tools.experiments.continual --out docs/results/continual/shapes-20

specs: $(STAMP)  ## the 80 classifiers saved and loaded to the bit, the example architectures (half an hour)
	$(BIN)/python -W ignore -m tools.sweep_specs --out docs/results/specs.json
	$(BIN)/python -m tools.example_specs

clean:  ## remove caches and build products (not the virtual environment, not runs/)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
