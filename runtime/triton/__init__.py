"""Serving with NVIDIA Triton: writes model repositories, and is what their Python models run.

A repository holds two models. ``codetr`` takes pictures and answers with detections; between its
pre- and postprocessing it calls ``codetr_network``, the engine or the reference graph.
"""

DETECTOR = "codetr"
"""The model that clients talk to."""
NETWORK = "codetr_network"
"""The model that the detector calls."""
REFERENCE_FILE = "model.ref.onnx"
"""Name of a reference graph in the repository."""
