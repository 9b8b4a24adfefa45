"""What a failed build means to the user."""

from __future__ import annotations

from collections.abc import Sequence

_ERRORS_SHOWN = 3
_ADVICE = {
    # "Error Code 2: OutOfMemory (…)", "Error Code 1: Cuda Runtime (out of memory)"
    ("outofmemory", "out of memory"): (
        "the GPU's memory is full; close other programs on it, or give a smaller --workspace or "
        "a smaller --batch"
    ),
    ("libnvinfer_lean",): (
        "--version-compatible puts TensorRT's lean runtime into the engine, and it is not there; "
        "install it (pip install tensorrt-lean, of the same version) and add its folder to "
        "LD_LIBRARY_PATH"
    ),
}
"""Parts of error messages in lower case, and what they mean."""


def reason_of_failure(errors: Sequence[str]) -> str:
    """One line from all that a backend complained of: what to do if it is known, and its words.

    A build that runs out of memory says so for each kernel it tried, so only some are shown.
    """
    shown = list(dict.fromkeys(errors))
    known = [
        advice
        for parts, advice in _ADVICE.items()
        if any(part in error.lower() for part in parts for error in shown)
    ]
    if len(shown) > _ERRORS_SHOWN:  # what failed at last is said at the end
        shown = [f"{len(shown) - _ERRORS_SHOWN} more errors", *shown[-_ERRORS_SHOWN:]]
    words = "; ".join(shown)
    return f"{'; '.join(known)} ({words})" if known else words
