"""The sub-commands of ``python -m runtime``: each module has ``add_parser`` and ``run``."""
