# Everything runs from a virtual environment that these targets create from the project's files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test test-slow fuzz check docs bench gpu-day lock clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)  ## the main job on drawn street scenes: train, evaluate, export, quantise, time, predict (about 5 minutes)
	$(BIN)/kerbseg demo --out demo

test: $(READY)  ## all tests but the slow ones
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup --max-worker-restart 0

test-slow: $(READY)  ## the slow ones too
	$(BIN)/python -m pytest -q -m ''

fuzz: $(READY)  ## every command on more than a thousand spoiled files (about 20 minutes)
	$(BIN)/python tests/fuzz/fuzz_run.py --jobs 2 --out build/fuzz

check: $(READY)  ## lint, format, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)  ## the documentation as a site, in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

gpu-day: $(READY)  ## trains the zoo on a GPU, in pieces of under ten minutes; say it again until no job is left
	$(BIN)/python benchmarks/gpu_day.py train --out build/gpu-day

bench: $(READY)
	$(BIN)/python benchmarks/cpu.py

lock: $(READY)  ## requirements.lock: hashes of the versions in constraints.txt, without torch and what its CUDA build needs
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra all -c constraints.txt --universal --python-version 3.11 \
		--generate-hashes --no-annotate --custom-compile-command 'make lock' --quiet --output-file requirements.all
	awk '/^[^ #]/ { drop = /^(torch==|triton==|cuda-|nvidia-)/ } !drop' requirements.all > requirements.lock
	rm requirements.all

clean:
	rm -rf $(VENV) demo build dist src/*.egg-info
