"""Frames of video files, cameras and network streams, by PyAV."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runtime.errors import UserError
from runtime.images import Image
from runtime.parallel import in_background
from runtime.sources import Video

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

_AHEAD = 8
"""Decoded frames that wait: at 1080p 6 MB each."""
_SILENCE = 10.0
"""Seconds that a camera or server may be silent before it counts as lost."""
_RECONNECT = (1, 2, 4, 8, 16)
"""Seconds before each attempt to open a lost stream again; then it has ended."""


class Frame(NamedTuple):
    """One picture of a video."""

    image: Image
    """uint8 RGB (h, w, 3), upright."""
    seconds: float
    """Since the video's start."""


class VideoReader:
    """Reads a video once, and counts what was wrong with it."""

    def __init__(self, video: Video, report: Callable[[str], None]) -> None:
        """Open the video.

        Args:
            video: what to read.
            report: called with one line when something goes wrong.

        Raises:
            UserError: it cannot be opened, holds no video, or PyAV is not installed.
        """
        self.video = video
        self._report = report
        self._container = open_video(video)
        stream = self._container.streams.video[0]
        self.total: int | None = stream.frames or None
        """How many frames the file states; None where it does not, as in a stream."""
        self.rate: Fraction = stream.average_rate or Fraction(25)
        """Frames per second, about."""
        self.damaged = 0
        """Frames, or packets of them, that could not be decoded."""
        self.dropped = 0
        """Frames of a live source that came faster than they were used."""
        self.lost = False
        """Whether the file broke off, or the stream was lost for good."""
        self._stop = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """Its frames, decoded in another thread; may be called once.

        A damaged frame is left out. A stream that is lost is opened again, and where its frames
        come faster than they are used, the oldest are dropped.
        """
        if self.video.live:
            return in_background(self._live_frames(), ahead=1, stop=self._stop, on_drop=self._drop)
        return in_background(self._file_frames(), ahead=_AHEAD, stop=self._stop)

    def stop(self) -> None:
        """Let the frames end; may be called from a signal handler."""
        self._stop.set()

    def _drop(self) -> None:
        self.dropped += 1

    def _file_frames(self) -> Generator[Frame]:
        for frame in self._decoded():
            yield Frame(_upright(frame), float(frame.time or 0))
        if self.lost:
            self._report(f"warning: {self.video} breaks off before its end")

    def _live_frames(self) -> Generator[Frame]:
        start = time.monotonic()
        while True:
            for frame in self._decoded():
                yield Frame(_upright(frame), time.monotonic() - start)
            if self._stop.is_set() or not self._reconnect():
                return

    def _decoded(self) -> Generator[VideoFrame]:
        """Frames until the end, or until nothing more can be read."""
        import av

        self.lost = False
        with self._container as container:
            packets = container.demux(container.streams.video[0])
            while True:
                try:
                    packet = next(packets)
                except StopIteration:
                    return
                except av.FFmpegError:
                    self.lost = True
                    return
                try:
                    decoded = packet.decode()
                except av.FFmpegError:
                    self.damaged += 1
                    continue
                for frame in decoded:
                    if frame.is_corrupt:
                        self.damaged += 1
                    else:
                        yield frame

    def _reconnect(self) -> bool:
        """Open a lost stream again; False if it does not come back."""
        self._report(f"warning: {self.video} was lost; trying to open it again")
        for seconds in _RECONNECT:
            if self._stop.wait(seconds):
                return False
            try:
                self._container = open_video(self.video)
            except UserError:
                continue
            self._report(f"{self.video} is there again")
            return True
        self._report(f"warning: {self.video} did not come back within {sum(_RECONNECT)} s")
        self.lost = True
        return False


def open_video(video: Video) -> InputContainer:
    """Open a video; the caller closes it.

    Raises:
        UserError: it cannot be opened, holds no video, or PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(f"{video} needs PyAV ({error}); pip install av") from error
    # TCP: over UDP, FFmpeg's choice, a lost packet is a damaged frame.
    options = {"rtsp_transport": "tcp"} if video.url.startswith("rtsp") else {}
    try:
        container = av.open(
            video.url,
            format="v4l2" if video.is_camera else None,
            options=options,
            timeout=_SILENCE if video.live else None,
        )
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"cannot open video {video}: {error.strerror}") from error
    if not container.streams.video:
        container.close()
        raise UserError(f"{video} holds no video; give a file or stream that does")
    container.streams.video[0].thread_type = "AUTO"
    return container


def _upright(frame: VideoFrame) -> Image:
    """The frame as uint8 RGB (h, w, 3), turned as its file says: phones film sideways."""
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
