"""The face of a person: vertices at rest and in motion, eyes, lids, landmarks. No pictures."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.rig.expressions import EXPRESSIONS, expression, with_eyes
from training.rig.lips import Lips
from training.rig.mesh import SparseShapes, rotation, vertex_normals
from training.rig.pack import HeadPack
from training.rig.person import Person

Array = NDArray[np.float32]
LEFT_EYE, RIGHT_EYE = (42, 43, 44, 45, 46, 47), (36, 37, 38, 39, 40, 41)
# The mean head holds its brows a little high and its lips apart: this is what "relaxed" adds to it.
RELAXED = {"browInnerUp": -0.22, "browDown": 0.06, "eyeWide": 0.10, "mouthPress": 0.06, "mouthRollLower": 0.05}


LIFT_CM = -0.02  # corners end this much above the seam


class Face:
    """Base vertices of a person and their motion. Not for use from two threads at once."""

    def __init__(self, pack: HeadPack, shapes: SparseShapes) -> None:
        self.pack = pack
        self.shapes = shapes
        self.base = pack.mean
        self.points = np.zeros_like(pack.mean)
        self.normals = np.zeros_like(pack.mean)
        self._landmark_basis = np.ascontiguousarray(pack.expression_basis[:, pack.landmarks])
        self._landmark_weight = pack.neck_weight[pack.landmarks][:, None]

    def set_person(self, person: Person) -> None:
        pack = self.pack
        shape = np.zeros(len(pack.identity_basis), np.float32)
        shape[: len(person.shape)] = person.shape
        moved = pack.mean + np.tensordot(shape, pack.identity_basis, 1)
        self.base = relaxed(pack, moved).astype(np.float32)
        self.lips = Lips.of(pack, self.base)
        self.eye_centres = [eye_centre(self.base[ids]) for ids in pack.eyes]

    def deform(self, weights: ArrayLike, gaze: ArrayLike, blink: float) -> Array:
        """Fills points and normals [N, 3]: expression, lids, eyeballs; returns the weights after lids."""
        w = with_eyes(weights, gaze, blink)
        if w.shape != (len(EXPRESSIONS),):
            raise ValueError(f"expression must be [{len(EXPRESSIONS)}] weights, got shape {w.shape}")
        self.shapes.blend(self.base, w, self.points)
        yaw, pitch = (float(v) for v in np.asarray(gaze))
        turn = rotation((yaw, -pitch, 0)).astype(np.float32)
        for ids, centre in zip(self.pack.eyes, self.eye_centres):
            self.points[ids] = (self.points[ids] - centre) @ turn.T + centre
        vertex_normals(self.points, self.pack.triangle_vertex, self.normals)
        return w

    def landmarks(
        self, weights: ArrayLike, pose: ArrayLike, shift: ArrayLike, gaze: ArrayLike, blink: ArrayLike
    ) -> Array:
        """Landmarks [..., 68, 3] cm of posed faces, all arguments with the same leading axes."""
        w = with_eyes(weights, gaze, blink)
        basis = self._landmark_basis.reshape(len(EXPRESSIONS), -1)
        rest = (w.reshape(-1, len(EXPRESSIONS)) @ basis).reshape(*w.shape[:-1], 68, 3) + self.base[self.pack.landmarks]
        pivot = self.pack.neck_pivot
        turned = (rest - pivot) @ np.swapaxes(rotation(pose), -1, -2) + pivot + np.asarray(shift)[..., None, :]
        return (rest + self._landmark_weight * (turned - rest)).astype(np.float32)

    def lids(self) -> NDArray[np.float64]:
        """Per eye (left, right): upper lid y, lower lid y, curvature of the upper lid, centre x."""
        out = []
        for ids in (LEFT_EYE, RIGHT_EYE):
            p = self.points[self.pack.landmarks[list(ids)]]
            top, bottom = (p[1, 1] + p[2, 1]) / 2, (p[4, 1] + p[5, 1]) / 2
            half_width = (p[0, 0] - p[3, 0]) / 2
            curve = ((p[0, 1] + p[3, 1]) / 2 - top) / max(half_width**2, 1e-3)
            out.append([top, bottom, curve, (p[0, 0] + p[3, 0]) / 2])
        return np.array(out, float)


def eye_centre(ball: Array) -> Array:
    """Centre of an eyeball: the lens bulges forward, so z comes from the back of the ball."""
    radius = (ball[:, 0].max() - ball[:, 0].min()) / 2
    centre = (ball.max(0) + ball.min(0)) / 2
    centre[2] = ball[:, 2].min() + radius
    return centre.astype(np.float32)


def relaxed(pack: HeadPack, head: Array) -> Array:
    """A head with resting brows and closed lips, so that all-zero weights look relaxed."""
    weights = expression(RELAXED)
    weights += _level_corners(pack, head, weights)
    closed = Lips.of(pack, head).fix(weights[None], np.ones(1))[0]
    return head + np.tensordot(closed, pack.expression_basis, 1)


def _level_corners(pack: HeadPack, head: Array, weights: Array) -> Array:
    """Smile weights that lift hanging mouth corners to the height of the seam of the lips."""
    corners, seam = pack.landmarks[[48, 54]], pack.landmarks[[62, 66]]

    def sag(points: Array) -> Array:
        return points[..., seam, 1].mean(-1) - points[..., corners, 1].mean(-1)

    per_weight = sag(pack.expression_basis)
    smile = expression({"mouthSmile": 1.0})
    amount = (float(sag(head) + weights @ per_weight) - LIFT_CM) / max(-float(smile @ per_weight), 1e-3)
    return smile * np.float32(np.clip(amount, 0.05, 0.40))
