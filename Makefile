# make demo   install everything, export, build a TensorRT-RTX engine, detect digits: no GPU needed
# make test   install everything and run the tests that need no GPU
# make lint   style and types
.PHONY: demo test lint clean

PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
BIN := .venv/bin
INSTALLED := .venv/installed
DIGITS := codetr/trained/co_dino_digits/weights.safetensors

demo: demo/model.engine demo/out/detections.json
	@$(BIN)/python -m trt_build inspect demo/model.engine
	@echo
	@echo "pictures with detections: demo/out/000001.png to demo/out/000004.png"
	@echo "detections as JSON:       demo/out/detections.json"
	@echo "TensorRT-RTX engine:      demo/model.engine (runs on RTX cards; built here without one)"

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not gpu"

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf .venv demo

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv || { echo "no venv: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing (PyTorch is large: some minutes, about 6 GB on disk)"
	$(BIN)/python -m pip install --quiet --editable ".[export,rtx,onnxruntime,eval,video,ray,training,test,lint]"
	touch $@

demo/pictures/annotations.json: $(INSTALLED)
	rm -rf demo/pictures
	$(BIN)/python -m codetr.training.dataset --split test --count 4 --seed 3 -o demo/pictures

demo/model.ref.onnx: $(DIGITS) $(INSTALLED)
	$(BIN)/python -m onnx_export --preset co_dino_digits --weights $< --height 480 --width 480 \
	    -o demo/model.onnx

demo/model.engine: demo/model.ref.onnx
	$(BIN)/python -m trt_build $< -o $@ --backend tensorrt-rtx

demo/out/detections.json: demo/model.ref.onnx demo/pictures/annotations.json
	$(BIN)/python -m runtime detect $< demo/pictures -o demo/out
