# Each target works alone on a fresh clone: it makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXAMPLE := data/examples/resnet18_cifar10.onnx
IMAGES := $(firstword $(wildcard data/cifar10 ../shared/datasets/cifar10))

.PHONY: help install demo test test-slow test-sound fuzz exporters test-exporters compat lint format docs bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "onnx-ghn needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# The core and what runs models: without torch.
CORE := $(VENV)/.core
$(CORE): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "onnx-ghn needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[cpu]'
	@touch $@

install: $(READY)  ## make .venv with onnx-ghn and what its tests need

demo: $(if $(wildcard $(READY)),$(READY),$(CORE))  ## predict the weights of a bundled ResNet-18, draw its graph, measure it where CIFAR-10 is at hand
	@mkdir -p out
	$(BIN)/onnx-ghn predict $(EXAMPLE) --policy none -o out/resnet18_random.onnx --force
	$(BIN)/onnx-ghn predict $(EXAMPLE) --policy all -o out/resnet18.onnx --force
	$(BIN)/onnx-ghn draw $(EXAMPLE) -o out/resnet18.svg --force
	@$(BIN)/python -c 'import os; print("out/resnet18.onnx: {:,} bytes of architecture in, {:,} bytes with weights out".format(os.path.getsize("$(EXAMPLE)"), os.path.getsize("out/resnet18.onnx")))'
	@if [ -z "$(IMAGES)" ]; then \
	  echo "no CIFAR-10 in data/cifar10, so its accuracy is not measured"; \
	else \
	  echo "before: random weights (Kaiming)"; \
	  $(BIN)/onnx-ghn eval -D $(IMAGES) --model out/resnet18_random.onnx --statistics batch --n-images 1024; \
	  echo "after: predicted weights, the file as it is written (running statistics from drawn pictures)"; \
	  $(BIN)/onnx-ghn eval -D $(IMAGES) --model out/resnet18.onnx --n-images 1024; \
	  echo "after: predicted weights, with the statistics of each batch, as a network in training has them"; \
	  $(BIN)/onnx-ghn eval -D $(IMAGES) --model out/resnet18.onnx --statistics batch --n-images 1024; \
	fi

test: $(READY)  ## the default tests, under ten minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope -m 'not slow' $(ARGS)

test-slow: $(READY)  ## the tests that take minutes or gigabytes
	$(BIN)/python -m pytest -m slow $(ARGS)

fuzz: $(READY)  ## try changed files of every kind on the commands that read them (N=2000 SEED=0)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzzing.py --files $(or $(N),2000) --seed $(or $(SEED),0)

# The frameworks' pins disagree, so that they need several environments; $(VENV) predicts for those without torch.
$(VENV)-%/.ready: exporters/requirements/%.txt
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-$*/bin/python -m pip install --quiet --requirement $< 'pytest>=8'
	$(VENV)-$*/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

test-sound: $(READY)  ## what predictions compute, for more than a hundred networks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/sound $(ARGS)

exporters: $(READY) $(VENV)-keras/.ready $(VENV)-flax/.ready $(VENV)-paddle/.ready $(VENV)-mindspore/.ready  ## make an environment for each framework

EXPORTER_TESTS := OMP_NUM_THREADS=1 ONNX_GHN_PYTHON=$(abspath $(BIN)/python)
test-exporters: exporters  ## round trips of every framework, each in its own environment
	$(EXPORTER_TESTS) $(BIN)/python -m pytest tests/exporters $(ARGS)
	$(EXPORTER_TESTS) KERAS_BACKEND=tensorflow $(VENV)-keras/bin/python -m pytest tests/exporters/test_keras.py tests/exporters/test_keras_callback.py tests/exporters/test_keras_growth.py tests/exporters/test_tensorflow.py $(ARGS)
	$(EXPORTER_TESTS) KERAS_BACKEND=jax $(VENV)-flax/bin/python -m pytest tests/exporters/test_keras.py tests/exporters/test_keras_callback.py tests/exporters/test_keras_growth.py tests/exporters/test_flax.py tests/exporters/test_flax_growth.py tests/exporters/test_equinox.py $(ARGS)
	$(EXPORTER_TESTS) $(VENV)-paddle/bin/python -m pytest tests/exporters/test_paddle.py $(ARGS)
	$(EXPORTER_TESTS) $(VENV)-mindspore/bin/python -m pytest tests/exporters/test_mindspore.py $(ARGS)

# An environment for each group of software whose pins agree. Where one cannot be made, the table says why.
COMPAT := torch keras jax paddle mindspore small nnabla tools onnx2tf ort-training runtimes
COMPAT_PYTHON_nnabla := python3.10
COMPAT_PYTHON_onnx2tf := python3.12
$(VENV)-compat-%/.ready: benchmarks/requirements/compat-%.txt benchmarks/requirements/compat-core.txt
	@rm -f $(VENV)-compat-$*.failed
	@if { $(or $(COMPAT_PYTHON_$*),$(PYTHON)) -m venv $(VENV)-compat-$* && \
	      $(VENV)-compat-$*/bin/python -m pip install --quiet --requirement $<; } > $(VENV)-compat-$*.log 2>&1; then \
	  touch $@; \
	else \
	  { echo "its environment cannot be made:" $$(grep -v WARNING $(VENV)-compat-$*.log | tail -n 1); } > $(VENV)-compat-$*.failed; \
	  cat $(VENV)-compat-$*.failed; \
	fi

compat: $(READY) $(COMPAT:%=$(VENV)-compat-%/.ready)  ## measure what exporters, file tools, trainers and runtimes do with a file
	@mkdir -p out
	@rm -f out/compat.jsonl
	$(BIN)/python benchmarks/compat.py --group all --out out/compat.jsonl --page docs/compatibility.md \
	  --check benchmarks/compatibility_runs/expected.json

lint: $(READY)  ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## build the documentation into out/site/
	$(BIN)/mkdocs build --strict

bench: $(READY)  ## the speed tables of the README
	$(BIN)/python benchmarks/whole_process.py
	$(BIN)/python benchmarks/predict_speed.py
	$(BIN)/python benchmarks/train_step.py --modules

clean:  ## remove what the targets made
	rm -rf $(VENV) $(VENV)-* out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
