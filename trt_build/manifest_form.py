"""What has to be in a manifest, so that whoever reads it need not ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trt_build.backend import BACKENDS

_FILE = {"file": str, "sha256": str, "bytes": range(2**63)}
_FORM: dict[str, Any] = {
    "engine": _FILE,
    "onnx": _FILE,
    "recipe": {
        "onnx_sha256": str,
        "backend": tuple(BACKENDS),
        "backend_version": str,
        "gpu": str | None,
        "options": {"compute_capabilities": [str]},
    },
    "io": [{"name": str, "mode": str, "dtype": str, "shape": [int], "profile": dict | None}, ...],
    "layers": {"source": str, "count": int, "by_type": dict, "output_types": dict},
    "build": {"seconds": float, "machine": {"cpu": str, "gpu": dict | None}},
    "model": dict,
}
"""A type; a range or tuple of values; a list, with an ellipsis not an empty one; an object with at
least these keys."""
_PROFILE = {"min": [int, ...], "opt": [int, ...], "max": [int, ...]}


def what_is_wrong(manifest: Mapping[str, Any]) -> str | None:
    """The first entry of a manifest that is missing or makes no sense; None if there is none."""
    if problem := next(_misfits(manifest, _FORM, ""), None):
        return problem
    profiles = (tensor["profile"] for tensor in manifest["io"] if tensor["profile"] is not None)
    return next((place for p in profiles for place in _misfits(p, _PROFILE, "io.profile")), None)


def _misfits(value: Any, form: Any, place: str) -> Iterator[str]:
    """Places where a value does not have a form."""
    match form:
        case dict():
            entries = value if isinstance(value, dict) else {}
            for key, inner in form.items():
                yield from _misfits(entries.get(key, ...), inner, f"{place}.{key}".lstrip("."))
        case range() | tuple():
            # Of the same type first: a range would look for text among all its numbers.
            fits = type(value) is type(form[0]) and value in form
            yield from () if fits else (place,)
        case [inner, *more]:
            if not isinstance(value, list) or (more and not value):
                yield place
                return
            for entry in value:
                yield from _misfits(entry, inner, place)
        case _:
            fits = isinstance(value, form) and not isinstance(value, bool)
            yield from () if fits else (place,)
