"""Picture quality and landmark distance. Pictures are float32 in 0..1, landmarks pixels; all functions are pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

MID_GREY = 0.5
MOUTH = slice(48, 68)
"""Landmarks of the lips, of 68 in iBUG order."""

Array = NDArray[np.floating]


def over_grey(rgba: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`[..., H, W, 4] uint8` straight alpha -> `[..., H, W, 3] float32` 0..1 over mid grey."""
    pixels = rgba.astype(np.float32) / 255.0
    alpha = pixels[..., 3:]
    return pixels[..., :3] * alpha + MID_GREY * (1.0 - alpha)


def psnr(drawn: Array, truth: Array) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1; infinite for equal pictures."""
    error = float(np.mean(np.square(np.asarray(drawn, np.float64) - truth)))
    return float("inf") if error == 0.0 else -10.0 * float(np.log10(error))


def ssim(drawn: Array, truth: Array) -> float:
    """Structural similarity of two `[H, W, 3]` pictures, mean over pixels and channels.

    Gaussian window of sigma 1.5 and 11 pixels, K1 = 0.01, K2 = 0.03, range 1, mirrored borders.
    Source: Wang, Bovik, Sheikh and Simoncelli 2004, eq. 13.
    """
    a, b = np.asarray(drawn, np.float64), np.asarray(truth, np.float64)
    taps = np.exp(-np.square(np.arange(-5, 6)) / (2 * 1.5**2))
    taps /= taps.sum()

    def smooth(x: Array) -> Array:
        return correlate1d(correlate1d(x, taps, axis=0, mode="mirror"), taps, axis=1, mode="mirror")

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    both = smooth(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    alike = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(alike.mean())


def landmark_distance(drawn: Array, truth: Array, size: int, mouth: bool = False, at_size: int = 256) -> float:
    """Mean distance of landmarks `[n, 68, 2]` in pixels of a picture `at_size` wide, from pictures `size` wide.

    Over all 68 this is F-LMD; with `mouth`, over the lips alone, both sets centred on their mean, M-LMD: the shape of the
    mouth, wherever the head is. Source: Chen et al. 2018 (LMD), split into face and mouth as in the SPEAK paper.
    """
    a, b = np.asarray(drawn, np.float64), np.asarray(truth, np.float64)
    if mouth:
        a, b = a[:, MOUTH], b[:, MOUTH]
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return float(np.linalg.norm(a - b, axis=-1).mean() * at_size / size)
