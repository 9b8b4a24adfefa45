import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from runtime import video as video_module
from runtime.errors import UserError
from runtime.sources import Video
from runtime.video import VideoReader
from runtime.video_writer import VideoWriter
from tests.runtime.videos import SIZE, Station, colour_of, damage, save_video
from tests.synthetic_images import picture


def read(path, report=print):
    reader = VideoReader(Video(str(path)), report)
    return reader, list(reader.frames())


def test_frames_and_their_times(tmp_path):
    reader, frames = read(save_video(tmp_path / "a.mp4", 12))
    assert (reader.total, reader.rate, reader.damaged, reader.lost) == (12, 25, 0, False)
    assert [frame.seconds for frame in frames] == pytest.approx([n / 25 for n in range(12)])
    for index, frame in enumerate(frames):
        assert frame.image.shape == (*SIZE, 3)
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image - np.array(colour_of(index), float)).max() < 8


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".avi"])
def test_other_containers(tmp_path, suffix):
    _, frames = read(save_video(tmp_path / f"a{suffix}", 5))
    assert len(frames) == 5


def test_sideways_video_is_turned_upright(tmp_path):
    upright = picture(SIZE[0], SIZE[1], seed=3)
    with VideoWriter(tmp_path / "flat.mp4", Fraction(5)) as writer:
        writer.write(upright, 0)
    with av.open(tmp_path / "flat.mp4") as flat, av.open(tmp_path / "turned.mp4", "w") as turned:
        stream = turned.add_stream_from_template(flat.streams.video[0])
        stream.set_display_rotation(90)
        for packet in flat.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                turned.mux(packet)
    _, [frame] = read(tmp_path / "turned.mp4")
    turned = np.rot90(upright)  # what 90 degrees mean in a file: anticlockwise
    assert frame.image.shape == turned.shape
    assert (
        np.abs(frame.image - turned.astype(float)).mean()
        < 20
        < np.abs(frame.image - turned[::-1, ::-1].astype(float)).mean()
    )


def test_damaged_frames_are_counted_and_left_out(tmp_path):
    reader, frames = read(damage(save_video(tmp_path / "a.mp4", 60, size=(240, 320))))
    assert 0 < len(frames) < 60
    assert len(frames) + reader.damaged == 60
    assert not reader.lost


def test_cut_video_is_told(tmp_path):
    path = save_video(tmp_path / "a.mkv", 60, size=(240, 320))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _, frames = read(path)
    assert 0 < len(frames) < 60


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"", "Invalid data"), (b"text " * 99, "Invalid data")],
)
def test_no_video(tmp_path, content, reason):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"cannot open video {path}: {reason}"):
        VideoReader(Video(str(path)), print)


def test_sound_alone_is_no_video(tmp_path):
    with av.open(tmp_path / "a.mp4", "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        container.mux([*stream.encode(sound), *stream.encode()])
    with pytest.raises(UserError, match="holds no video"):
        VideoReader(Video(str(tmp_path / "a.mp4")), print)


def test_odd_sizes_and_changing_sizes_can_be_written(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", Fraction(25)) as writer:
        writer.write(np.full((33, 47, 3), 90, np.uint8), 0)
        writer.write(np.full((66, 94, 3), 90, np.uint8), 0.04)
        writer.write(np.full((33, 47, 3), 90, np.uint8), 0.04)  # a time that does not rise
    _, frames = read(tmp_path / "a.mp4")
    assert [frame.image.shape for frame in frames] == [(34, 48, 3)] * 3
    assert [round(frame.seconds, 3) for frame in frames] == [0, 0.04, 0.04]
    assert frames[1].seconds < frames[2].seconds


def test_lost_stream_is_opened_again_and_then_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(video_module, "_RECONNECT", (0.1, 0.1))
    save_video(tmp_path / "a.ts", 30)
    station = Station(tmp_path / "a.ts", connections=2)
    told = []
    reader = VideoReader(Video(station.url), told.append)
    frames = list(reader.frames())
    assert reader.lost
    assert len(frames) + reader.dropped > 40  # of two times 30; some are lost with the connection
    assert [frame.seconds for frame in frames] == sorted(frame.seconds for frame in frames)
    assert [line.partition(station.url)[2].strip() for line in told] == [
        "was lost; trying to open it again",
        "is there again",
        "was lost; trying to open it again",
        "did not come back within 0.2 s",
    ]


def test_live_stream_is_stopped_from_outside(tmp_path):
    save_video(tmp_path / "a.ts", 30)
    station = Station(tmp_path / "a.ts", connections=1)
    told = []
    reader = VideoReader(Video(station.url), told.append)
    frames = reader.frames()
    next(frames)
    threading.Timer(0.3, reader.stop).start()
    start = time.perf_counter()
    list(frames)  # it would wait 31 s for the stream to come back
    assert time.perf_counter() - start < 5
    assert not reader.lost


def test_without_pyav(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match="pip install av"):
        VideoReader(Video(str(tmp_path / "a.mp4")), print)
