"""Co-DINO to ONNX: one graph for TensorRT with our plugin, one in plain ONNX to compare it with.

Importing this package imports nothing heavy; the command is ``python -m onnx_export --help``.
"""
