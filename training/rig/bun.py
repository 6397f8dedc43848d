"""A knot of hair: arcs wound around a ball."""

import numpy as np
from numpy.typing import NDArray

from training.rig.hair import ribbon_triangles
from training.rig.mesh import unit
from training.rig.part import Part, float32
from training.rig.raster import HAIR


def make_bun(
    rng: np.random.Generator, centre: NDArray[np.float64], radius: float, n: int = 700, k_points: int = 10
) -> Part:
    """The bun as ribbons around `centre` (cm)."""
    axis = unit(np.concatenate([rng.normal(0, 0.35, (n, 2)), np.ones((n, 1))], 1))
    u = unit(np.cross(axis, [0, 1, 0.1]))
    v = np.cross(axis, u)
    r = radius * rng.uniform(0.35, 1, n)
    height = np.sqrt(np.maximum(0, radius**2 - r**2)) * rng.choice([-0.8, 0.8], n)
    angle = rng.uniform(0, 6.28, n)[:, None] + np.linspace(0, 1.6, k_points)
    arc = centre + (axis * height[:, None])[:, None]
    arc = (
        arc
        + (np.cos(angle) * r[:, None])[..., None] * u[:, None]
        + (np.sin(angle) * r[:, None])[..., None] * v[:, None]
    )
    normal = unit(arc - centre)
    tangent = unit(np.gradient(arc, axis=1))
    side = unit(np.cross(tangent, normal))
    t = np.linspace(0, 1, k_points)
    width = (0.2 * np.interp(t, [0, 0.2, 0.8, 1], [0.1, 1, 1, 0.1]))[None, :, None]
    points = np.stack([arc - side * width, arc + side * width], 2)
    attr = np.zeros((n, k_points, 2, 6))
    attr[..., 0] = 0.3 + 0.4 * t[None, :, None]
    attr[..., 1] = rng.random(n)[:, None, None]
    attr[..., 2] = (r / radius)[:, None, None]
    attr[..., 3] = (-1, 1)
    attr[..., 4] = rng.random(n)[:, None, None]
    attr[..., 5] = 1.0
    return Part(
        HAIR,
        *float32(
            points.reshape(-1, 3), np.repeat(normal[:, :, None], 2, 2).reshape(-1, 3), attr.reshape(-1, 6),
            np.ones(n * k_points * 2),
        ),
        ribbon_triangles(n, k_points),
        *float32(np.repeat(tangent[:, :, None], 2, 2).reshape(-1, 3)),
    )  # fmt: skip
