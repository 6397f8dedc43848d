"""Landmarks and lips of a person without any picture: all that a clip's truth needs of the renderer.

The points are linear in the weights, so a whole clip is one matrix product.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from training.rig.expressions import INDEX
from training.rig.face import Face
from training.rig.lips import CLOSED_CM, CROSSED_CM
from training.rig.mesh import Camera, SparseShapes
from training.rig.pack import HeadPack
from training.rig.person import Person

EYE_CORNERS = (36, 45)

Array = NDArray[np.float32]
__all__ = ["CLOSED_CM", "CROSSED_CM", "LandmarkModel"]


@cache
def _no_shapes() -> SparseShapes:
    """Landmarks need no dense shapes; making those takes most of a renderer's start."""
    return SparseShapes.of(np.zeros((1, 1, 3), np.float32))


class LandmarkModel:
    """The person's landmarks, exactly as the renderer has them; some milliseconds to make once the pack is loaded."""

    def __init__(self, pack: HeadPack, person: Person):
        self._face = Face(pack, _no_shapes())
        self._face.set_person(person)
        self._lips = self._face.lips
        left, right = (self._face.base[pack.landmarks[k]] for k in EYE_CORNERS)
        self.eye_distance_cm = float(np.linalg.norm(left - right))

    def gap(self, expression: Array) -> Array:
        """[n, 60] -> inner-lip gap [n], cm, below 0 where the lips press."""
        return self._lips.gap(expression)

    def aperture(self, expression: Array) -> Array:
        """[n, 60] -> [n]: inner-lip gap over the distance of the outer eye corners, at pose zero; never below 0."""
        return (np.maximum(self.gap(expression), 0) / self.eye_distance_cm).astype(np.float32)

    def with_gap(self, expression: Array, low: Array, high: Array) -> Array:
        """Moves jaw and lips so that low <= gap <= high ([n] cm): opened by the jaw, closed by the lips."""
        out = np.array(expression, np.float32)
        gap = self.gap(out)
        jaw, lips = INDEX["jawOpen"], INDEX["mouthClose"]
        out[:, jaw] += np.maximum(low - gap, 0) / self._lips.per_weight[jaw]
        out[:, lips] += np.minimum(high - gap, 0) / self._lips.per_weight[lips]
        return out

    def project(self, expression: Array, pose: Array, shift: Array, gaze: Array, blink: Array, size: int) -> Array:
        """Landmarks in pixels of a `size` x `size` picture, [n, 68, 2] float32; arguments as in docs/formats.md."""
        return Camera.portrait(size).project(self._face.landmarks(expression, pose, shift, gaze, blink))
