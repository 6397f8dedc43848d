"""Pictures as the codecs want them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.animator import straighten

Pixels = NDArray[np.uint8]


def to_yuv(rgb: Pixels) -> Pixels:
    """RGB [h, w, 3] -> I420 [h * 3 / 2, w] uint8, BT.601, limited range."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), np.uint8)


def bleed(rgba: Pixels) -> Pixels:
    """Premultiplied -> straight alpha, with colour bled into the empty pixels beside the bust: codecs smear across
    its edge.
    """
    straight = straighten(rgba)
    near = cv2.blur(rgba, (17, 17)).astype(np.uint16)
    empty = (rgba[..., 3] == 0) & (near[..., 3] > 0)
    part = near[empty]
    straight[empty, :3] = np.minimum(part[:, :3] * 255 // part[:, 3:], 255)
    return straight
