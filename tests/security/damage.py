"""What damage does to a file: bits flipped, bytes exchanged, the end missing."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hypothesis import strategies as st

KINDS = ("flip", "cut", "overwrite")


def damaged(data: bytes, kind: str, seed: int) -> bytes:
    """A copy with 1 to 8 bits flipped, cut short, with some bytes exchanged, or ("none") whole."""
    if kind == "none":
        return data
    rng = random.Random(f"{kind} {seed}")
    result = bytearray(data)
    if kind == "cut":
        return data[: rng.randrange(len(data))]
    if kind == "flip":
        for _ in range(rng.randint(1, 8)):
            result[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        start = rng.randrange(len(data))
        length = min(rng.choice((1, 2, 4, 8, 32)), len(data) - start)
        result[start : start + length] = rng.choice(
            (bytes(length), b"\xff" * length, rng.randbytes(length))
        )
    # Some bytes are exchanged for the same ones.
    return bytes(result) if result != data else damaged(data, "flip", seed + 1)


def attempts(count: int, kinds: tuple[str, ...] = KINDS) -> Iterator[tuple[str, int]]:
    """``count`` of each kind."""
    return ((kind, seed) for kind in kinds for seed in range(count))


def damage(data: bytes) -> st.SearchStrategy[bytes]:
    """Hypothesis' choice of it."""
    return st.builds(damaged, st.just(data), st.sampled_from(KINDS), st.integers(0, 2**32))


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, -1, 0, "", "../../x", "\0", "[" * 20]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def altered_json(draw: st.DrawFn, value: object) -> object:
    """A JSON value in which something is exchanged for something else, or is missing."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 5)) == 0:
        return draw(JSON_VALUES)
    changed: dict | list = value.copy()
    key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
    if draw(st.integers(0, 5)) == 0:
        del changed[key]
    else:
        changed[key] = draw(altered_json(value[key]))
    return changed
