import struct
import zlib

import cv2
import numpy as np
import pytest

from runtime.errors import UserError
from runtime.images import checked_image, read_image, write_image
from tests.synthetic_images import picture

RGB = picture(40, 60, seed=1)
BGR = RGB[..., ::-1]


def encoded(array, suffix=".png"):
    return cv2.imencode(suffix, array)[1].tobytes()


def saved(path, data):
    path.write_bytes(data)
    return path


def with_orientation(jpeg, orientation):
    """Insert an EXIF segment with that orientation behind the start of a JPEG."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def test_colour_is_rgb(tmp_path):
    image = read_image(saved(tmp_path / "a.png", encoded(BGR)))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RGB)


def test_non_ascii_path_and_str(tmp_path):
    path = saved(tmp_path / "Straße 写真.png", encoded(BGR))
    np.testing.assert_array_equal(read_image(str(path)), RGB)


def test_grey_becomes_colour(tmp_path):
    grey = RGB[..., 0]
    image = read_image(saved(tmp_path / "grey.png", encoded(grey)))
    np.testing.assert_array_equal(image, np.dstack([grey] * 3))


def test_alpha_is_left_out(tmp_path):
    transparent = np.dstack([BGR, np.zeros(RGB.shape[:2], np.uint8)])
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.png", encoded(transparent))), RGB)


def test_16_bit_becomes_8_bit(tmp_path):
    deep = BGR.astype(np.uint16) * 256 + 7
    np.testing.assert_array_equal(read_image(saved(tmp_path / "deep.png", encoded(deep))), RGB)


def test_exif_orientation_is_applied(tmp_path):
    jpeg = encoded(BGR, ".jpg")
    upright = read_image(saved(tmp_path / "1.jpg", with_orientation(jpeg, 1)))
    rotated = read_image(saved(tmp_path / "6.jpg", with_orientation(jpeg, 6)))
    assert upright.shape == (40, 60, 3)
    np.testing.assert_array_equal(rotated, np.rot90(upright, -1))  # 6: turn clockwise


@pytest.mark.parametrize("shape", [(1, 1), (10000, 100)])
def test_extreme_sizes(tmp_path, shape):
    image = read_image(saved(tmp_path / "a.png", encoded(np.full((*shape, 3), 9, np.uint8))))
    assert image.shape == (*shape, 3)


def cut_jpeg():
    data = encoded(BGR, ".jpg")
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"not a picture at all\n" * 20, "not a picture"),
        (cut_jpeg(), "cut short"),
        (encoded(BGR)[:200], "cut short"),
    ],
    ids=["zero-byte", "text", "cut jpeg", "cut png"],
)
def test_bad_content(tmp_path, data, reason):
    path = saved(tmp_path / "bad.jpg", data)
    with pytest.raises(UserError, match=reason) as error:
        read_image(path)
    assert str(path) in str(error.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(UserError, match="Is a directory"):
        read_image(tmp_path)


def png_of(width, height):
    """The start of a PNG that states this size."""
    png = bytearray(encoded(BGR))
    png[16:24] = struct.pack(">II", width, height)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


@pytest.mark.parametrize("size", [(20000, 20000), (70000, 1), (1, 70000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_before_they_are_decoded(tmp_path, monkeypatch, size):
    monkeypatch.setattr(cv2, "imdecode", pytest.fail)
    path = saved(tmp_path / "bomb.png", png_of(*size))
    with pytest.raises(UserError, match=rf"bomb.png has {size[0]} x {size[1]} pixels, more than"):
        read_image(path)


def test_a_bomb_that_is_a_whole_picture(tmp_path):
    """400 megapixels of one bit in 49 kB: OpenCV would decode them, to 1.2 GB."""
    rows = zlib.compress(bytes(20000 * (1 + 20000 // 8)), 9)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)), (b"IDAT", rows)]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    )
    assert len(png) < 50_000
    with pytest.raises(UserError, match="20000 x 20000 pixels, more than the 268435456 in all"):
        read_image(saved(tmp_path / "bomb.png", png))


def test_a_picture_of_100_megapixels_is_no_bomb(tmp_path):
    jpeg = encoded(np.full((8192, 12288), 77, np.uint8), ".jpg")
    assert read_image(saved(tmp_path / "large.jpg", jpeg)).shape == (8192, 12288, 3)


def test_the_largest_cameras_are_within_the_limit(tmp_path):
    with pytest.raises(UserError, match="cut short"):  # only the size is asked first
        read_image(saved(tmp_path / "huge.png", png_of(16384, 12288)))


@pytest.mark.parametrize("suffix", [".jp2", ".gif", ".ppm", ".hdr", ".avif"])
def test_formats_of_which_no_size_is_known_are_not_tried(tmp_path, monkeypatch, suffix):
    data = encoded(BGR, suffix)
    monkeypatch.setattr(cv2, "imdecode", pytest.fail)
    with pytest.raises(UserError, match="not a picture"):
        read_image(saved(tmp_path / "a.png", data))


def test_write_then_read(tmp_path):
    write_image(tmp_path / "new" / "a.png", RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), RGB)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]


def test_name_of_full_length_can_be_written(tmp_path):
    write_image(tmp_path / ("n" * 251 + ".png"), RGB)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (RGB.astype(np.float32), r"float32 \(40, 60, 3\)"),
        (RGB[..., 0], r"uint8 \(40, 60\)"),
        (RGB[None], r"uint8 \(1, 40, 60, 3\)"),
        (RGB.transpose(2, 0, 1), r"uint8 \(3, 40, 60\)"),
        (RGB[:0], r"uint8 \(0, 60, 3\)"),
        ("photo.jpg", "str"),
    ],
)
def test_other_arrays_are_refused(value, got):
    with pytest.raises(UserError, match=rf"must be a uint8 RGB array \(h, w, 3\), got {got}$"):
        checked_image(value)
