"""The size that a file states is the size that OpenCV decodes it to."""

import struct

import cv2
import numpy as np
import pytest

from runtime.image_header import picture_size

SIZES = [(1, 1), (60, 40), (300, 2), (5, 700)]


def grey(width, height):
    return np.arange(width * height, dtype=np.uint32).reshape(height, width).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".bmp", ()),
        (".jpg", ()),
        (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        (".jpg", (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)),
        (".png", ()),
        (".tiff", ()),
        (".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, 5)),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 50)),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),  # lossless
    ],
)
def test_sizes_of_what_opencv_writes(size, suffix, options):
    encoded = cv2.imencode(suffix, grey(*size), options)[1].tobytes()
    assert picture_size(encoded) == size


def test_webp_with_transparency_has_its_size_elsewhere():
    transparent = np.dstack([grey(60, 40)] * 4)
    encoded = cv2.imencode(".webp", transparent, (cv2.IMWRITE_WEBP_QUALITY, 50))[1].tobytes()
    assert encoded[12:16] == b"VP8X"
    assert picture_size(encoded) == (60, 40)


def tiff(order, *, big=False, kind=4):
    """Two tags of a TIFF, as other programs write them."""
    start = {"<": b"II", ">": b"MM"}[order]
    value = {3: "H", 4: "I", 16: "Q"}[kind]
    head = struct.pack(
        order + ("HHHQQ" if big else "HIH"), *((43, 8, 0, 16, 2) if big else (42, 8, 2))
    )
    tags = b"".join(
        struct.pack(order + ("HHQ" if big else "HHI") + value, tag, kind, 1, size).ljust(
            20 if big else 12, b"\0"
        )
        for tag, size in ((256, 600), (257, 400))
    )
    return start + head + tags


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "options", [{}, {"kind": 3}, {"big": True}, {"big": True, "kind": 16}], ids=str
)
def test_tiff_in_all_byte_orders_and_lengths(order, options):
    assert picture_size(tiff(order, **options)) == (600, 400)


def test_the_larger_of_two_sizes_counts():
    tags = tiff("<")
    twice = tags[:8] + struct.pack("<H", 3) + tags[10:] + tags[10:18] + struct.pack("<I", 9000)
    assert picture_size(twice) == (9000, 400)


def test_a_bmp_may_start_with_its_upper_row():
    encoded = bytearray(cv2.imencode(".bmp", grey(60, 40))[1].tobytes())
    encoded[22:26] = struct.pack("<i", -40)
    assert cv2.imdecode(np.frombuffer(encoded, np.uint8), 1).shape == (40, 60, 3)
    assert picture_size(bytes(encoded)) == (60, 40)


def test_what_a_jpeg_carries_along_is_not_its_size():
    """A thumbnail in a segment has a frame header of its own."""
    thumbnail = cv2.imencode(".jpg", grey(8, 8))[1].tobytes()
    encoded = cv2.imencode(".jpg", grey(60, 40))[1].tobytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with_thumbnail = encoded[:2] + segment + encoded[2:]
    assert picture_size(with_thumbnail) == (60, 40)
    assert cv2.imdecode(np.frombuffer(with_thumbnail, np.uint8), 1).shape == (40, 60, 3)


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".png", ".tiff", ".webp"])
def test_every_beginning_of_a_file(suffix):
    encoded = cv2.imencode(suffix, grey(6, 4))[1].tobytes()
    found = {picture_size(encoded[:length]) for length in range(len(encoded) + 1)}
    assert found == {None, (6, 4)}
