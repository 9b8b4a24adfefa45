"""Video files of frames, by PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from runtime.closing import Closing
from runtime.images import Image

_TIME_BASE = Fraction(1, 90_000)


class VideoWriter(Closing):
    """Writes frames as H.264 in the container that the file's suffix names."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        """Open the file; the first frame decides the size.

        Args:
            path: file to write, e.g. ``*.mp4``.
            rate: frames per second, about; each frame has its own time.
        """
        import av

        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("h264", rate=rate)
        self._stream.pix_fmt = "yuv420p"  # what every player shows
        self._stream.codec_context.time_base = _TIME_BASE
        self._last = -1

    def write(self, image: Image, seconds: float) -> None:
        """Append a frame.

        Args:
            image: uint8 RGB (h, w, 3); resized to the first one's size if it has another.
            seconds: since the video's start.

        Raises:
            OSError: the disk is full, for one.
        """
        from av import VideoFrame

        if self._last < 0:
            # Colour has half the resolution, so both sides have to be even.
            self._stream.height, self._stream.width = (side + side % 2 for side in image.shape[:2])
        size = self._stream.width, self._stream.height
        if image.shape[1::-1] != size:
            image = cv2.resize(image, size).astype(np.uint8, copy=False)
        frame = VideoFrame.from_ndarray(image, format="rgb24")
        # Times have to rise, even where the source's do not.
        self._last = max(self._last + 1, round(seconds / _TIME_BASE))
        frame.pts, frame.time_base = self._last, _TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder holds back, and the end of the file."""
        if self._last >= 0:
            self._container.mux(self._stream.encode())
            self._last = -1
        self._container.close()
