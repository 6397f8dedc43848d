"""Brushes for the skin texture: noise, blobs in space, strokes along landmark curves."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from training.rig.traits import Brows

Array = NDArray[np.float32]


def smoothstep(a: float, b: float, x: Array) -> Array:
    t = np.clip((x - a) / (b - a), 0, 1)
    return t * t * (3 - 2 * t)


def smooth_noise(rng: np.random.Generator, octaves: tuple[tuple[int, float], ...], size: int) -> Array:
    """Sum of enlarged random grids; octaves are (grid size, amplitude)."""
    out = np.zeros((size, size), np.float32)
    for grid, amplitude in octaves:
        cells = rng.standard_normal((grid, grid)).astype(np.float32)
        out += np.float32(amplitude) * cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC)
    return out


def blob(pos: Array, centre: tuple[float, float, float], sigma: tuple[float, float, float]) -> Array:
    """Gaussian around a 3-D point, sigma per axis in cm."""
    q = (pos - np.array(centre, np.float32)) / np.array(sigma, np.float32)
    return np.exp(np.float32(-0.5) * (q * q).sum(-1))


def both_sides(pos: Array, centre: tuple[float, float, float], sigma: tuple[float, float, float]) -> Array:
    x, y, z = centre
    return blob(pos, (-x, y, z), sigma) + blob(pos, (x, y, z), sigma)


def over(colour: Array, paint: Array, alpha: Array) -> Array:
    """Lays paint over colour with an alpha per texel."""
    a = alpha[..., None]
    return colour * (1 - a) + paint * a


def spline(points: Array, count: int, closed: bool = False) -> NDArray[np.float64]:
    """count points on a smooth curve through `points`, evenly spaced along it."""
    p = np.vstack([points, points[:1]]) if closed else np.asarray(points)
    t = np.r_[0, np.cumsum(np.linalg.norm(np.diff(p, axis=0), axis=1))]
    return CubicSpline(t, p, bc_type="periodic" if closed else "natural")(np.linspace(0, t[-1], count))


def _pixels(uv: Array, size: int) -> NDArray[np.int32]:
    """uv to pixels with 4 fractional bits, for drawing with shift=4."""
    return (np.asarray(uv) * size * 16).astype(np.int32)


def polygon_mask(uv: Array, blur: float, size: int) -> Array:
    mask = np.zeros((size * 2, size * 2), np.uint8)
    cv2.fillPoly(mask, [_pixels(uv, size * 2)], 255, cv2.LINE_AA, shift=4)
    small = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return cv2.GaussianBlur(small, (0, 0), blur) if blur > 0 else small


def lip_outline(landmark_uv: Array) -> NDArray[np.float64]:
    return spline(landmark_uv[48:60], 120, closed=True)


def lid_lines(landmark_uv: Array, size: int) -> Array:
    """The rims of the lids, blurred."""
    canvas = np.zeros((size * 2, size * 2), np.uint8)
    for first in (36, 42):
        rim = spline(landmark_uv[first : first + 6], 80, closed=True)
        cv2.polylines(canvas, [_pixels(rim, size * 2)], True, 255, 3, cv2.LINE_AA, shift=4)
    line = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return cv2.GaussianBlur(line, (0, 0), 1.4)


def stubble(rng: np.random.Generator, beard: Array, amount: float) -> Array:
    """Short downward hairs, denser where the beard mask is strong."""
    size = beard.shape[0] * 2
    canvas = np.zeros((size, size), np.uint8)
    density = cv2.resize(beard, (size, size))
    ys, xs = np.where(density > 0.03)
    if not len(ys):
        return np.zeros_like(beard)
    picks = rng.integers(0, len(ys), int(70000 * min(1, amount + 0.25)))
    picks = picks[rng.random(len(picks)) < density[ys[picks], xs[picks]] ** 1.3]
    length = (4 + 18 * max(0, amount - 0.3)) * rng.uniform(0.5, 1, len(picks))
    lean = rng.normal(0, 0.16, len(picks)) + 0.25 * np.sin(xs[picks] / 90.0)
    grey = rng.integers(90, 230, len(picks))
    for x, y, dx, dy, g in zip(xs[picks], ys[picks], lean * length, length, grey):
        cv2.line(canvas, (int(x), int(y)), (int(x + dx), int(y - dy)), int(g), 1, cv2.LINE_AA)
    return cv2.resize(canvas, beard.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def brow_strokes(rng: np.random.Generator, landmark_uv: Array, brows: Brows, size: int) -> Array:
    """Coverage of both brows, drawn hair by hair along splines through their landmarks."""
    mask = np.zeros((size * 2, size * 2), np.uint8)
    for landmarks in (landmark_uv[17:22][::-1], landmark_uv[22:27]):
        _one_brow(rng, landmarks.copy(), brows, mask)
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _one_brow(rng: np.random.Generator, medial_to_lateral: Array, brows: Brows, mask: NDArray[np.uint8]) -> None:
    medial_to_lateral[2:4, 1] += brows.arch
    curve = spline(medial_to_lateral, 200)
    tangent = np.gradient(curve, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    normal *= np.sign(normal[:, 1:2])
    for _ in range(brows.hairs):
        t = rng.uniform(0, 1) ** 0.95
        i = int(t * 199)
        width = brows.thickness * np.interp(t, [0, 0.12, 0.4, 0.7, 1], [0.62, 1.0, 0.98, 0.72, 0.18])
        offset = rng.uniform(-0.5, 0.5) * width * 1.9
        centre = curve[i] + normal[i] * (offset + brows.lift)
        angle = np.interp(t, [0, 0.15, 0.5, 1], [1.15, 0.75, 0.25, 0.02])
        angle = angle * (1 if offset < width * 0.2 else 0.35) + rng.normal(0, 0.12)
        rise = 1 if offset < width * 0.3 else 0.2
        direction = tangent[i] * np.cos(angle) + normal[i] * np.sin(angle) * rise
        length = rng.uniform(0.011, 0.019) * brows.length
        along = (
            np.array([-0.25, 0.2, 0.5, 1.0])[:, None] * direction + np.array([0, 0, 0.15, 0.35])[:, None] * tangent[i]
        )
        stroke = _pixels(centre + along * length, mask.shape[0])
        line = 1 if rng.random() < 0.6 else 2
        cv2.polylines(mask, [stroke], False, int(rng.uniform(110, 225)), line, cv2.LINE_AA, shift=4)


def freckles(rng: np.random.Generator, pos: Array, amount: float) -> Array:
    size = pos.shape[0]
    mask = np.zeros((size, size), np.float32)
    region = both_sides(pos, (3.8, 0.8, 9.5), (2.4, 1.3, 3)) + blob(pos, (0, 1.2, 12), (1.5, 1.2, 2))
    for x, y in rng.integers(0, size, (int(1600 * amount), 2)):
        if rng.random() < region[y, x]:
            cv2.circle(mask, (int(x), int(y)), int(rng.integers(1, 3)), float(rng.uniform(0.2, 0.7)), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(mask, (0, 0), 0.7)
