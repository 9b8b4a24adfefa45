"""Small video files, and a network stream of one."""

import contextlib
import socket
import threading
import time

import numpy as np

from runtime.video_writer import VideoWriter

SIZE = (48, 64)


def colour_of(index):
    """What frame ``index`` is filled with."""
    return (40 + 7 * (index % 25), 120, 200 - 5 * (index % 25))


def save_video(path, frames=10, *, rate=25, size=SIZE):
    """Write a video of plain frames and return its path."""
    with VideoWriter(path, rate) as writer:
        for index in range(frames):
            writer.write(np.full((*size, 3), colour_of(index), np.uint8), index / rate)
    return path


def damage(path, *, seed=0, bytes_in_frames=60):
    """Flip bytes where the frames of a video file are, not its index."""
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat")
    end = data.index(b"moov") if data.index(b"moov") > start else len(data)
    for position in np.random.default_rng(seed).integers(start + 800, end - 8, bytes_in_frames):
        data[position] ^= 0xFF
    path.write_bytes(data)
    return path


def batched(data, size):
    return (data[start : start + size] for start in range(0, len(data), size))


class Station:
    """A network stream that sends a video and hangs up, once for each connection."""

    def __init__(self, path, connections, pause=0.0):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self.socket.getsockname()[1]}"
        data = path.read_bytes()

        def serve():
            for _ in range(connections):
                connection, _ = self.socket.accept()
                with connection, contextlib.suppress(OSError):  # the other side hung up
                    for packets in batched(data, 5 * 188):
                        connection.sendall(packets)
                        time.sleep(pause)
            self.socket.close()

        threading.Thread(target=serve, daemon=True).start()
