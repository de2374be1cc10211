# make install | train | predict | check | test | planted | lint | docs | site | parity | parity-steps | bench | bench-input |
#      bench-augment | gpu | gpu-program.
# Everything is installed into .venv; a second call installs nothing.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
# On a machine with an NVIDIA GPU: JAX's CUDA build.
GPU := $(shell { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; } && echo cuda)
ARGS ?=

.PHONY: install install-docs install-test train predict check test planted lint format docs site parity parity-steps bench bench-input bench-augment gpu gpu-program clean

install: $(VENV)/.installed$(GPU)
install-docs: $(VENV)/.installed-docs
install-test: $(VENV)/.installed-test

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip

$(VENV)/.installed$(GPU): $(PY) pyproject.toml constraints.txt
	@echo "installing jaxvision$(if $(GPU), for CUDA) into $(VENV), once; this takes some minutes ..."
	$(PIP) -c constraints.txt -e '.$(if $(GPU),[cuda])'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed$(GPU)
	$(PIP) -c constraints.txt -e '.[docs]'
	@touch $@

# With what the tests need: the extra test (which includes all and docs), and torch and timm to compare with.
# torch first and alone: together with others pip would take a newer build with gigabytes of CUDA packages.
$(VENV)/.installed-test: $(VENV)/.installed$(GPU)
	$(PIP) -c constraints.txt torch==2.13.0
	$(PIP) --no-deps torchvision==0.28.0 timm==1.0.31
	$(PIP) -c constraints.txt -e '.[test]'
	@touch $@

# ResNet-RS-50 on the packaged digits; the result is in runs/digits. Starting it again resumes.
train: install
	$(PY) -m jaxvision.main --config configs/resnet_rs50.py:digits --workdir runs/digits $(ARGS)

# A network trained on ImageNet names six photos; both come with packages on PyPI. The sheet is runs/predict/sheet.png.
predict: install-test
	@mkdir -p runs/predict
	$(PY) tools/predict.py --example --sheet runs/predict/sheet.png $(ARGS)

# Lint, and the tests of everything but whole programs and the zoo: after each change.
check: lint
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not program and not zoo and not slow" $(ARGS)

test: install-test
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Errors planted into a copy of the sources, one at a time: a test has to notice each. ARGS="EMA" narrows it.
planted: install-test
	$(PY) tests/planted_errors.py $(ARGS)

lint: install-test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: install-test
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# The table of config fields, from the code that uses them, and that of the recipes' sources; tests fail when they are
# stale. Then the site.
docs: install-docs
	$(PY) -m jaxvision.config > docs/config.md
	$(PY) tools/parity/recipes/make_page.py > docs/recipe_sources.md
	$(MAKE) site

# The documentation as a site, in build/site; a link that leads nowhere is an error.
site: install-docs
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --clean -f docs/site/mkdocs.yml $(ARGS)

# Every model compared with timm's: logits, features, gradients, export. About 30 s a model; ARGS="convnext_* --native"
# selects some, ARGS="--jobs 2" takes two at a time (6 GB each).
parity: install-test
	$(PY) tools/parity/models.py $(ARGS)

# Ten whole training steps of every recipe compared with timm's. One to five minutes each; ARGS="resnet50_a2" selects one.
parity-steps: install-test
	$(PY) tools/parity/steps.py $(ARGS)

# Speed, memory and accuracy of jaxvision and timm in one run; the result is in benchmarks/results/. ARGS="--help" explains.
bench: install-test
	$(PY) tools/bench/main.py $(ARGS)

# Time of the augmentation on the device as a share of each recipe's train step.
bench-augment: install
	$(PY) tools/bench/augment.py $(ARGS)

# Images per second of the host's input pipeline and of timm's loaders, in one run.
bench-input: install-test
	$(PY) tools/bench/input.py $(ARGS)

# All there is to measure on a GPU, in slices; started again, it goes on. ARGS=--plan tries it on a CPU.
gpu: install-test
	$(PY) tools/gpu/main.py $(ARGS)

# Damages files and interrupts runs: nothing may be lost, silent, unclear or hang. ARGS="--files 1000 --runs 20" is longer.
chaos: install-test
	$(PY) tools/chaos/main.py $(ARGS)

# The program that XLA compiles for an H200, without one. It has a separate environment, because jax 0.11 needs Python 3.12.
PYTHON312 ?= python3.12
.venv-gpu/.installed:
	$(PYTHON312) -m venv .venv-gpu
	.venv-gpu/bin/pip install --quiet "jax[cuda13]==0.11.2" flax==0.12.8 optax==0.2.8 ml_collections clu pillow safetensors absl-py
	@touch $@

gpu-program: .venv-gpu/.installed
	.venv-gpu/bin/python tools/bench/gpu_program.py $(ARGS)

clean:
	rm -rf $(VENV) .venv-gpu runs
