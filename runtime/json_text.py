"""JSON from and to bytes that anybody may have written."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """What a text in JSON says.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def to_json(value: Any, indent: int | None = None) -> bytes:
    """JSON as UTF-8.

    Names of files need not be UTF-8. Python holds their odd bytes as lone surrogates, which UTF-8
    has none of; what is written instead is JSON's own escape for them, and reads as it was.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")
