"""The sixty expression weights, estimated from landmarks: the likeliest weights under what rig performances do.

Landmarks turned back to pose zero are `rest + basis @ weights + noise`. With a normal prior for the person's rest shape
and for the weights both have a closed-form answer: first the rest shape from the clip's mean face, then the weights of
each frame. Landmarks of the eyes are left out, because blinks and gaze move them too. Lips, jaw, brows and cheeks come
out well; what no landmark shows (tongue, pupils, puffed cheeks) stays near the prior's mean. Learned by
training/data/learn_expression.py.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

ASSET = Path(__file__).with_name("assets") / "expression_from_landmarks.safetensors"
USED = np.array([k for k in range(68) if not 36 <= k < 48])  # all but the eyes


@cache
def fit() -> dict[str, np.ndarray]:
    """rest [112] cm, to_rest [112, 112], to_weights [60, 112], mean [60] weights, shown [112] what the mean shows, cm."""
    return load_file(ASSET)


def read(upright: np.ndarray) -> np.ndarray:
    """upright [n, 68, 2 or 3] cm of one person's clip, pose zero, about the neck's pivot -> weights [n, 60] float32.

    No blink, and no lids' share of gaze, in them (docs/formats.md). Clipped to -0.4 .. 1.6, as performances are.
    """
    known = fit()
    seen = upright[:, USED, :2].reshape(len(upright), -1)
    surprise = seen.mean(axis=0) - known["rest"] - known["shown"]
    rest = known["rest"] + known["to_rest"] @ surprise
    weights = known["mean"] + (seen - rest - known["shown"]) @ known["to_weights"].T
    return np.clip(weights, -0.4, 1.6).astype(np.float32)
