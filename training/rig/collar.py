"""What sits on the neckline: a shirt collar with its points, a hood lying on the back."""

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from training.rig.loft import grid_normals, grid_triangles, tube
from training.rig.mesh import unit
from training.rig.part import Part, columns, float32
from training.rig.person import Person
from training.rig.raster import CLOTH

Array = NDArray[np.float64]
FRONT = np.pi / 2  # the angle at which the garment's rings face the camera


def neckwear(person: Person, shirt: Part, n_columns: int) -> list[Part]:
    """Extra cloth on a fitted shirt, whose points are rings of n_columns from the neckline down."""
    rings = shirt.points.reshape(-1, n_columns, 3).astype(float)
    weight = shirt.head_weight.reshape(-1, n_columns)
    if person.clothes.kind == "collar":
        return [_collar(rings, weight)]
    if person.clothes.kind == "hoodie":
        return [_hood(rings, weight), *_strings(rings, weight)]
    return []


def _around(rings: Array, row: int, angle: Array) -> Array:
    """Points of a ring at angles (radians, 0 at +x, growing towards the camera)."""
    n = rings.shape[1]
    at = np.mod(angle, 2 * np.pi) / (2 * np.pi) * n
    i = np.floor(at).astype(int) % n
    f = (at - np.floor(at))[:, None]
    return rings[row, i] * (1 - f) + rings[row, (i + 1) % n] * f


def _collar(rings: Array, weight: Array) -> Part:
    """A turned-down collar, open at the throat."""
    open_angle = 0.13
    angle = np.linspace(FRONT + open_angle, FRONT + 2 * np.pi - open_angle, 90)
    foot = _around(rings, 1, angle)
    out = np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle) * 1.1], 1)
    out = unit(out)
    front = np.clip(np.sin(angle), 0, 1)[:, None] ** 3
    end = np.minimum(angle - angle[0], angle[-1] - angle)[:, None]
    point = np.clip(1 - end / 0.55, 0, 1) ** 1.5  # towards the two tips
    up = np.array([0.0, 1.0, 0.0])
    aside = np.stack([np.sign(np.cos(angle)), np.zeros_like(angle), np.zeros_like(angle)], 1)
    profile = [
        foot - out * 0.05,
        foot + up * (1.25 - 0.5 * front) - out * 0.1,
        foot + up * (1.5 - 0.6 * front) + out * 0.35 + aside * 0.15 * point,
        foot + up * (0.9 - 0.6 * front) + out * 0.9 + aside * 0.5 * point,
        foot - up * (0.75 + 0.7 * front + 0.7 * point) + out * (1.6 + 0.2 * front) + aside * 1.1 * point,
        foot - up * (1.35 + 0.9 * front + 1.7 * point) + out * (1.9 + 0.3 * front) + aside * 1.6 * point,
    ]
    grid = PchipInterpolator(np.arange(6), np.array(profile))(np.linspace(0, 5, 16))
    grid[..., 1] = np.maximum(grid[..., 1], _around(rings, 6, angle)[:, 1] - 6.0)
    w = np.interp(np.mod(angle, 2 * np.pi), np.linspace(0, 2 * np.pi, weight.shape[1]), weight[1])
    shade = np.interp(np.linspace(0, 5, 16), [0, 1, 2, 3, 5], [0.35, 0.6, 1, 1, 0.95])
    return _sheet(grid, np.broadcast_to(w, grid.shape[:2]), shade, trim=0.0)


def _hood(rings: Array, weight: Array) -> Part:
    """A hood lying on the shoulders: a soft roll, thin in front and full behind the neck."""
    angle = np.linspace(FRONT + 0.42, FRONT + 2 * np.pi - 0.42, 90)
    behind = (0.5 - 0.5 * np.sin(angle)) ** 1.3
    ends = np.clip(np.minimum(angle - angle[0], angle[-1] - angle) / 0.5, 0, 1) ** 0.5
    radius = (0.75 + 1.5 * behind) * (0.25 + 0.75 * ends)
    centre = _around(rings, 3, angle)
    out = unit(np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle) * 1.1], 1))
    centre = centre + out * (0.45 + 0.8 * behind)[:, None] + np.array([0, 1.0, 0]) * (0.25 + 1.3 * behind)[:, None]
    turn = np.linspace(0, 2 * np.pi, 17)
    up = np.array([0.0, 1.0, 0.0])
    crumple = 1 + 0.06 * np.sin(angle * 9)[None, :] * np.sin(turn * 2 + 1)[:, None]
    grid = centre[None] + (radius[None, :] * crumple)[..., None] * (
        np.cos(turn)[:, None, None] * out[None] * 1.15 + np.sin(turn)[:, None, None] * up
    )
    w = np.interp(np.mod(angle, 2 * np.pi), np.linspace(0, 2 * np.pi, weight.shape[1]), weight[3])
    shade = 0.78 + 0.22 * np.sin(turn) - 0.25 * np.clip(-np.cos(turn), 0, 1)
    return _sheet(grid, np.broadcast_to(w, grid.shape[:2]), shade, trim=0.0)


def _strings(rings: Array, weight: Array) -> list[Part]:
    parts = []
    for side in (-1, 1):
        t = np.linspace(0, 1, 16)
        start = _around(rings, 4, np.array([FRONT - side * 0.42]))[0]
        chest = _around(rings, 20, np.array([FRONT - side * 0.2]))[0]
        curve = start + (chest - start) * t[:, None] * 0.75
        curve[:, 2] += 0.5 + 0.6 * np.sin(t * np.pi)
        curve[:, 0] += side * 0.25 * np.sin(t * 5)
        points, normals, triangles = tube(curve, np.r_[np.full(13, 0.17), 0.21, 0.21, 0.19])
        n = len(points)
        parts.append(
            Part(
                CLOTH,
                *float32(points, normals),
                columns(1.0, 0.0, 0.95, count=n),
                *float32(np.full(n, weight[4].min())),
                triangles,
            )
        )
    return parts


def _sheet(grid: Array, weight: Array, occlusion: Array, trim: float) -> Part:
    """A grid [rows, columns, 3] as cloth, its normals turned away from the neck's axis."""
    normals = grid_normals(grid)
    centre = grid.mean((0, 1))
    outward = grid - np.array([centre[0], 0, centre[2] - 1.0]) * np.array([1, 0, 1])
    outward[..., 1] = 0
    if (normals * outward).sum() < 0:
        normals = -normals
    rows, n_columns = grid.shape[:2]
    v = np.broadcast_to(np.linspace(0, 1, n_columns), (rows, n_columns))
    shade = np.broadcast_to(occlusion[:, None], (rows, n_columns))
    n = rows * n_columns
    return Part(
        CLOTH,
        *float32(grid.reshape(-1, 3), normals.reshape(-1, 3)),
        columns(trim, v.ravel(), shade.ravel(), count=n),
        *float32(np.ascontiguousarray(weight).ravel()),
        grid_triangles(rows, n_columns, wrap=False),
    )
