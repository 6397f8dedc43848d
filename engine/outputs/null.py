"""A camera that nobody watches: for `--camera none`, where the preview, a recording or the figures are all that is
wanted.
"""

import numpy as np
from numpy.typing import NDArray


class NullCamera:
    """Takes frames of one size, as every camera here does, and counts them. Camera thread only."""

    name = "none"

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.frames = 0

    def send(self, picture: NDArray[np.uint8]) -> None:
        """Takes `[height, width, 3]` uint8 RGB. Raises `ValueError` for another shape: its size never changes."""
        if picture.shape != (self.height, self.width, 3):
            raise ValueError(f"the camera is {self.width}x{self.height} RGB, found a frame of shape {picture.shape}")
        self.frames += 1

    def close(self) -> None:
        """Nothing to give back."""
