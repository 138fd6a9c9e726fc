# The commands of the README. Each makes .venv and installs what it needs.
PYTHON ?= python3
VENV   ?= .venv
EXTRAS ?= test
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test triton-server soak bench busy served scale check docs napari gpu-report clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.plain
	$(BIN)/refocus-live run --demo --frames 40 --report demo/report.json
	$(BIN)/refocus-live run --demo --frames 20 --report demo/20x075.json \
		--na 0.75 --pixel-size-um 0.325 --emission-um 0.52 --defocus 4

# Two tests at a time, each with one thread for PyTorch.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# A Triton server for its tests, 60 MB, which they skip without; its pins of NumPy are for what it
# brings beside the server, so it has a folder of its own.
triton-server: build/triton/.made

build/triton/.made: | $(VENV)/bin/python
	$(PIP) --no-deps --upgrade --target build/triton nvidia-pytriton==0.7.0
	touch $@

soak: $(VENV)/.test
	$(BIN)/python -m pytest -m soak -s

bench: $(VENV)/.plain
	$(BIN)/refocus-bench --json bench.json

# Whether a run keeps an engine busy that is as fast as one on a GPU; needs none.
busy: $(VENV)/.plain
	$(BIN)/refocus-bench --only busy

# The rate through a Triton server over that of the bare engine, at frames of 8 MB.
served: $(VENV)/.test triton-server
	$(BIN)/python -m refocus.bench.served

check: $(VENV)/.check
	VENV=$(VENV) scripts/check

# What slides and plates cost: half an hour on two idle cores, and 5 GB of disk.
scale: $(VENV)/.plain
	$(BIN)/python -m refocus.bench.scale

docs: $(VENV)/.docs
	scripts/house
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# napari brings a hundred packages and needs OpenGL, so its tests have a place of their own: a
# display, or on Debian apt-get install xvfb libgl1-mesa-dri libegl1 libxcb-cursor0 libxcb-icccm4
# libxcb-keysyms1 libxcb-image0 libxcb-render-util0 libxcb-xinerama0 libxkbcommon-x11-0.
napari: $(VENV)/.napari
	$(if $(DISPLAY),,xvfb-run -a) $(BIN)/python -m pytest -m napari tests/view \
		-o filterwarnings=default --disable-warnings

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The demo needs what a microscope PC needs, and no PyTorch.
$(VENV)/.plain: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[$(EXTRAS)]'
	touch $@ $(VENV)/.plain

$(VENV)/.check: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[test,check]'
	touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[docs]'
	touch $@

$(VENV)/.napari: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[test,napari,ndv,qt]' pytest-qt
	touch $@

# On a machine with an NVIDIA GPU: conformance, parity, speed of every engine.
gpu-report: $(VENV)/.test
	$(BIN)/python -m refocus.bench.gpu_report

clean:
	rm -rf $(VENV) build demo *.egg-info
