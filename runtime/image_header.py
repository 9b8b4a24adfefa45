"""How large a picture is, read from its first bytes, so that none is decoded that is too large.

A file of some kilobytes can decode to gigabytes. What decoders read a second time is read here as
they do it: the first frame header of a JPEG counts, the first directory of a TIFF.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TIFF_INTEGERS = {3: "H", 4: "I", 16: "Q"}
"""Types of a tag that hold a size: SHORT, LONG, and BigTIFF's LONG8."""
# Of a JPEG: without a length; and frame headers, all SOFn but DHT, JPG and DAC among them.
_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def picture_size(encoded: bytes) -> tuple[int, int] | None:
    """Width and height in pixels that a picture file states.

    Args:
        encoded: a whole BMP, JPEG, PNG, TIFF or WebP file.

    Returns:
        None if it is of none of these formats, or cut short before it says.
    """
    for start, read in _READERS.items():
        if encoded.startswith(start):
            try:
                return read(encoded)
            except (struct.error, ValueError, IndexError, OverflowError):  # not within the file
                return None
    return None


def _png(data: bytes) -> tuple[int, int] | None:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _bmp(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(width), abs(height)  # a negative height: the first row is the upper one


def _jpeg(data: bytes) -> tuple[int, int]:
    position = 2
    while True:
        # As libjpeg does, pass over what is between two segments.
        position = data.index(0xFF, position)
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        position += 1
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 3)
            return width, height
        if marker != 0 and marker not in _JPEG_ALONE:
            position += struct.unpack_from(">H", data, position)[0]


def _tiff(data: bytes) -> tuple[int, int] | None:
    order = "<" if data.startswith(b"II") else ">"
    if struct.unpack_from(order + "H", data, 2)[0] == 43:  # BigTIFF: all numbers are longer
        offset, count, entry = "Q", "Q", 20
        (start,) = struct.unpack_from(order + offset, data, 8)
    else:
        offset, count, entry = "I", "H", 12
        (start,) = struct.unpack_from(order + offset, data, 4)
    (entries,) = struct.unpack_from(order + count, data, start)
    first = start + struct.calcsize(order + count)
    found: dict[int, int] = {}
    for position in range(first, first + entry * entries, entry):
        tag, kind = struct.unpack_from(order + "HH", data, position)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT) and kind in _TIFF_INTEGERS:
            value = position + 4 + struct.calcsize(order + offset)
            (size,) = struct.unpack_from(order + _TIFF_INTEGERS[kind], data, value)
            found[tag] = max(size, found.get(tag, 0))
    if found.keys() != {_TIFF_WIDTH, _TIFF_HEIGHT}:
        return None
    return found[_TIFF_WIDTH], found[_TIFF_HEIGHT]


def _webp(data: bytes) -> tuple[int, int] | None:
    match data[8:16]:
        case b"WEBPVP8X":  # 24 bits each, less one
            low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
            return (low_w | high_w << 16) + 1, (low_h | high_h << 16) + 1
        case b"WEBPVP8L":  # 14 bits each, less one
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"WEBPVP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF  # the upper bits are a scale for showing it
    return None


_READERS: dict[bytes, Callable[[bytes], tuple[int, int] | None]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8": _jpeg,
    b"BM": _bmp,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,
    b"MM\0+": _tiff,
    b"RIFF": _webp,
}
"""By how files begin."""
