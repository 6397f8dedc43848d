# Two commands: `make run` (set up, then see the face) and `make test` (set up for development, then test everything that can be tested).
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: run test setup setup-dev system system-dev check clean
.DEFAULT_GOAL := run

run: setup
	@$(BIN)/python -m engine start

# Training runs apart from the engine: torch's training threads and OpenVINO's do not get on in one process.
TRAINING := tests/test_stages.py tests/test_talker.py tests/test_cpc.py tests/test_composer.py tests/test_face_frames.py \
	tests/test_speech2video.py tests/test_speech2video_table.py tests/test_distil.py tests/test_ablations.py \
	tests/test_composer_adversarial.py tests/test_speech2video_mouths.py
PYTEST := OPENBLAS_NUM_THREADS=1 QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest

test: setup-dev
	@status=0; \
	$(PYTEST) $(TRAINING:%=--ignore=%) $(ARGS) || status=1; \
	$(PYTEST) $(TRAINING) $(ARGS) || status=1; \
	exit $$status

check: setup-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

setup: system $(VENV)/.installed
setup-dev: system-dev $(VENV)/.installed-dev

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Mouthpiece needs Python 3.11 or newer, found " + sys.version.split()[0] + ": run make PYTHON=python3.11")'
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing the engine, the desktop app and the virtual camera (about 840 MB, once; 560 of them for the engine)"
	@$(PIP) install -e '.[gui]'
	@$(PIP) install -e '.[camera]' || echo "pyvirtualcam could not be installed: the face still shows in the window, but not as a camera"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what training, export and the tests need (torch: about 700 MB, once)"
	@$(PIP) install '$(TORCH)'
	@$(PIP) install -e '.[gui,train,dev]'
	@touch $@

system:
	@sh .ci/system.sh run
system-dev:
	@sh .ci/system.sh test

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
