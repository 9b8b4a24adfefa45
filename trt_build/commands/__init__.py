"""The commands of ``python -m trt_build``: each module has ``run(arguments) -> exit code``."""
