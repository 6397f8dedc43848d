"""Relief of the face: pores, lip creases and the lines of age, as tilts of the normal.

Resting lines are always there (deeper with age); moving lines appear with the expression that makes them:
1 forehead (raised brows), 2 between the brows (frown), 3 eye corners and cheeks (smile, squint).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.rig.brush import smooth_noise, smoothstep, spline
from training.rig.pack import HeadPack
from training.rig.person import Person

Array = NDArray[np.float32]
FOREHEAD, FROWN, SMILE = 1, 2, 3


@dataclass(frozen=True)
class Relief:
    """Maps over the face tile, [S, S, ...] float32."""

    resting: Array  # tilt xyz
    moving: Array  # tilt xyz at full expression
    region: Array  # 0 or one of FOREHEAD, FROWN, SMILE
    crease: Array  # 0..1: how much a resting line darkens the skin


def tilt_of_height(pos: Array, height: Array) -> Array:
    """Minus the surface gradient of a height map (cm) over positions [S, S, 3]: what it adds to the normal."""
    along_u = cv2.Sobel(pos, cv2.CV_32F, 1, 0, ksize=3) / 8
    along_v = cv2.Sobel(pos, cv2.CV_32F, 0, 1, ksize=3) / 8
    length_u = np.maximum((along_u * along_u).sum(-1), 2e-5)
    length_v = np.maximum((along_v * along_v).sum(-1), 2e-5)
    slope_u = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3) / 8 / length_u
    slope_v = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3) / 8 / length_v
    return np.clip(-(along_u * slope_u[..., None] + along_v * slope_v[..., None]), -1, 1)


def _groove(pos: Array, points: list[tuple[float, float]], width_cm: float, wobble: Array) -> Array:
    """A line through (x, y) points in front view, on both sides of the face, fading at its ends; 0..1."""
    curve = spline(np.array(points, float), 24).astype(np.float32)
    x, y = np.abs(pos[..., 0]), pos[..., 1] + wobble
    low, high = curve.min(0) - 1.0, curve.max(0) + 1.0
    rows, columns = np.where((x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1]) & (pos[..., 2] > 4.5))
    out = np.zeros(x.shape, np.float32)
    d2 = (x[rows, columns, None] - curve[:, 0]) ** 2 + (y[rows, columns, None] - curve[:, 1]) ** 2
    nearest = d2.argmin(1)
    fade = np.sin(np.linspace(0.12, np.pi - 0.12, len(curve))) ** 0.7
    out[rows, columns] = np.exp(-d2[np.arange(len(rows)), nearest] / (2 * width_cm**2)) * fade[nearest]
    return out


def face_relief(rng: np.random.Generator, pack: HeadPack, person: Person, lips: Array, fine: Array) -> Relief:
    """Pores, lip creases and lines of a person."""
    pos = pack.face_position
    size = pos.shape[0]
    wobble = 0.10 * smooth_noise(rng, ((7, 1.0), (16, 0.5)), size)
    wobble_fine = 0.05 * smooth_noise(rng, ((40, 1.0),), size)
    mark = pack.mean[pack.landmarks]
    lines = {
        FOREHEAD: _forehead(rng, pos, wobble),
        FROWN: _between_brows(pos, wobble_fine),
        SMILE: _eye_corners(pos, mark, wobble_fine) + 0.0,
    }
    folds = _folds(pos, mark, wobble_fine)
    age = person.skin.wrinkles
    depth = 0.085 * (lines[FOREHEAD] * 0.8 * max(0, age - 0.15) + lines[FROWN] * 0.7 * age + lines[SMILE] * 0.8 * age)
    depth = depth + 0.085 * folds * (0.2 + 0.9 * age)
    resting = -depth + _pores(rng, fine, size) + _lip_creases(rng, lips, size)
    moving_height = np.zeros((size, size), np.float32)
    region = np.zeros((size, size), np.float32)
    for index, line in lines.items():
        spread = cv2.GaussianBlur(line, (0, 0), 6) > 0.01
        region[spread] = index
        moving_height -= np.where(spread, line, 0) * (0.045 if index != FOREHEAD else 0.06) * (0.55 + 0.45 * age)
    crease = np.clip(depth * 9, 0, 1)
    return Relief(tilt_of_height(pos, resting), tilt_of_height(pos, moving_height), region, crease)


def _pores(rng: np.random.Generator, fine: Array, size: int) -> Array:
    cells = rng.standard_normal((size, size)).astype(np.float32)
    dots = np.minimum(cv2.GaussianBlur(cells, (0, 0), 1.0) * 3.5 + 0.2, 0)
    lumps = smooth_noise(rng, ((140, 0.6), (260, 0.5)), size)
    return 0.0036 * dots + 0.0016 * fine + 0.0040 * lumps


def _lip_creases(rng: np.random.Generator, lips: Array, size: int) -> Array:
    streaks = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), sigmaX=1.3, sigmaY=6) * 7
    return 0.005 * streaks * np.clip(lips, 0, 1)


def _forehead(rng: np.random.Generator, pos: Array, wobble: Array) -> Array:
    out = np.zeros(pos.shape[:2], np.float32)
    for y in (6.75, 7.7, 8.6, 9.45):
        bow = rng.uniform(-0.1, 0.35)
        points = [(-0.5, y), (1.5, y + bow * 0.6), (3.2, y + bow), (4.9, y - 0.25)]
        out = np.maximum(out, _groove(pos, points, 0.13, wobble) * rng.uniform(0.6, 1.0))
    return out


def _between_brows(pos: Array, wobble: Array) -> Array:
    upright = _groove(pos, [(0.62, 4.2), (0.72, 5.0), (0.62, 5.9)], 0.10, wobble)
    return np.maximum(upright, 0.6 * _groove(pos, [(-0.5, 3.35), (0.2, 3.4), (0.7, 3.3)], 0.12, wobble))


def _eye_corners(pos: Array, mark: Array, wobble: Array) -> Array:
    corner = np.array([abs(mark[45, 0]), mark[45, 1]])
    out = np.zeros(pos.shape[:2], np.float32)
    for angle, length in ((0.45, 1.3), (0.12, 1.5), (-0.22, 1.5), (-0.55, 1.3)):
        direction = np.array([np.cos(angle), np.sin(angle)])
        points = [tuple(corner + direction * (0.45 + length * s)) for s in (0, 0.5, 1.0)]
        out = np.maximum(out, _groove(pos, points, 0.075, wobble))
    under = [(1.6, mark[45, 1] - 0.75), (2.8, mark[45, 1] - 1.25), (4.2, mark[45, 1] - 0.85)]
    return np.maximum(out, 0.5 * _groove(pos, under, 0.09, wobble))


def _folds(pos: Array, mark: Array, wobble: Array) -> Array:
    """From the wings of the nose past the mouth, and below its corners."""
    mouth = np.array([abs(mark[54, 0]), mark[54, 1]])
    fold = [(1.75, 0.35), (2.35, -0.6), (mouth[0] + 0.55, mouth[1] + 1.1), (mouth[0] + 0.85, mouth[1] - 0.1)]
    out = _groove(pos, fold, 0.17, wobble)
    droop = [(mouth[0] + 0.25, mouth[1] - 0.5), (mouth[0] + 0.45, mouth[1] - 1.3), (mouth[0] + 0.3, mouth[1] - 2.0)]
    out = np.maximum(out, 0.45 * _groove(pos, droop, 0.15, wobble))
    below_eye = [(1.5, 2.2), (2.3, 1.55), (3.4, 1.35)]
    return np.maximum(out, 0.5 * _groove(pos, below_eye, 0.14, wobble)) * smoothstep(5.0, 7.0, pos[..., 2])
