"""Writes the clips' pictures: H.264 at 30 fps, frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import av
import numpy as np

from training.data.clip import FPS


class Movie:
    """A context manager; `layout` is what is added (rgb24 or gray), `stored` the pixel format of the file.

    Raises av.error.FFmpegError or OSError when the file cannot be written.
    """

    def __init__(self, path: Path, size: int, layout: str, stored: str):
        self._layout = layout
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=FPS, options={"crf": "16", "preset": "veryfast"})
        self._stream.width = self._stream.height = size
        self._stream.pix_fmt = stored

    def add(self, picture: np.ndarray) -> None:
        """picture uint8, [size, size, 3] rgb24 or [size, size] gray."""
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(picture, format=self._layout)):
            self._container.mux(packet)

    def __enter__(self) -> Movie:
        return self

    def __exit__(self, kind, *_) -> Literal[False]:
        try:
            if kind is None:
                for packet in self._stream.encode(None):
                    self._container.mux(packet)
        finally:
            self._container.close()
        return False
