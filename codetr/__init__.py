"""Co-DINO (the Co-DETR query head) in plain PyTorch: presets, network, checkpoints.

Importing this package imports nothing heavy; import from its modules.
"""
