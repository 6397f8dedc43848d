"""The square that prepare cuts out: head and bust as the rig's camera frames them, and steady."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

# The rig's camera in plain numbers (training/rig/mesh.py), so that a real head sits where a drawn one does.
NECK_AT = (0.5, 0.7105)  # where the neck's pivot is seen at pose zero, share of the picture
NECK_WIDTH_CM = 38.41  # what the picture's width spans at the depth of that pivot
STILL_CM = 2.5  # a head whose place moves less than this, over a whole scene, gets a square that does not move at all
SMOOTH_S = 1.0  # else the square follows, slowly
LEAST_FACE_PX = 60  # distance of chin and brows would be interpolated out of nothing below this


@dataclass(frozen=True)
class Square:
    """A square of the source picture per frame: left and top edge and side, in pixels of the upright source."""

    left: np.ndarray  # [n] float64
    top: np.ndarray  # [n]
    side: np.ndarray  # [n]

    def to_crop(self, points: np.ndarray, size: int) -> np.ndarray:
        """points [n, ..., 2 or 3] of the source -> pixels of the `size` x `size` crop (z scaled alike)."""
        n = len(self.left)
        shape = (n,) + (1,) * (points.ndim - 2)
        scale = (size / self.side).reshape(shape)[..., None]
        corner = np.zeros((n, points.shape[-1]))
        corner[:, 0], corner[:, 1] = self.left, self.top
        return (points - corner.reshape((*shape, points.shape[-1]))) * scale

    def inside(self, width: int, height: int) -> float:
        """Least share of the square, over the frames, that the source picture covers."""
        across = np.minimum(self.left + self.side, width) - np.maximum(self.left, 0)
        down = np.minimum(self.top + self.side, height) - np.maximum(self.top, 0)
        return float((across.clip(0) * down.clip(0) / self.side**2).min())


def steady_square(pivot: np.ndarray, pixels_per_cm: np.ndarray, rate: float) -> Square:
    """The head's place [n, 2] px and scale [n] px/cm at `rate` frames a second -> the square to cut.

    The square hangs on the neck's pivot, which a turning or nodding head leaves where it is.
    """
    scale = np.full(len(pixels_per_cm), np.median(pixels_per_cm))
    middle = np.broadcast_to(np.median(pivot, axis=0), pivot.shape)
    wander = np.abs(pivot - middle).max(axis=1) / scale
    if np.percentile(wander, 98) > STILL_CM:
        middle = _smooth(pivot, SMOOTH_S * rate)
        scale = _smooth(pixels_per_cm, 2 * SMOOTH_S * rate)
    side = NECK_WIDTH_CM * scale
    return Square(middle[:, 0] - NECK_AT[0] * side, middle[:, 1] - NECK_AT[1] * side, side)


def _smooth(signal: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian over the first axis; the ends are carried on point-mirrored, so that steady motion stays steady there."""
    margin = min(int(3 * sigma), len(signal) - 1)
    padding = [(margin, margin)] + [(0, 0)] * (signal.ndim - 1)
    padded = np.pad(signal, padding, mode="reflect", reflect_type="odd")
    return gaussian_filter1d(padded, sigma, axis=0, mode="nearest")[margin : margin + len(signal)]


def cut_square(picture: np.ndarray, left: float, top: float, side: float, size: int) -> np.ndarray:
    """[h, w, c] -> [size, size, c]: sub-pixel place, averaged where it shrinks, its edge drawn on where it ends."""
    scale = size / side
    x, y = left, top
    if scale < 0.6:  # bilinear sampling alone would skip pixels
        height, width = picture.shape[:2]
        small = max(1, round(width * 2 * scale)), max(1, round(height * 2 * scale))
        if small[0] < width and small[1] < height:
            picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
            x, y = left * small[0] / width, top * small[1] / height
            scale_x, scale_y = scale * width / small[0], scale * height / small[1]
        else:
            scale_x = scale_y = scale
    else:
        scale_x = scale_y = scale
    # edges: u = (x - left) * scale; pixel p has its centre at p + 0.5
    matrix = np.array([[scale_x, 0, (0.5 - x) * scale_x - 0.5], [0, scale_y, (0.5 - y) * scale_y - 0.5]])
    kind = cv2.INTER_CUBIC if scale_x > 1.2 else cv2.INTER_LINEAR
    return cv2.warpAffine(picture, matrix, (size, size), flags=kind, borderMode=cv2.BORDER_REPLICATE)


def covered(left: float, top: float, side: float, size: int, width: int, height: int) -> np.ndarray:
    """[size, size] uint8: 255 where the square shows the source picture, 0 where it lies outside."""
    at = (np.arange(size) + 0.5) * side / size
    across, down = left + at, top + at
    return np.where(((down >= 0) & (down < height))[:, None] & ((across >= 0) & (across < width)), 255, 0).astype(
        np.uint8
    )
