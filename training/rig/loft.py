"""Surfaces from curves: grids and tubes."""

import numpy as np
from numpy.typing import NDArray

from training.rig.mesh import unit

Array = NDArray[np.float64]


def grid_triangles(n_rows: int, n_columns: int, wrap: bool = True) -> NDArray[np.int32]:
    """Two triangles per cell of a grid of points, row by row; wrap joins the last column to the first."""
    row, column = np.mgrid[0 : n_rows - 1, 0 : n_columns if wrap else n_columns - 1]
    a = (row * n_columns + column).ravel()
    b = (row * n_columns + (column + 1) % n_columns).ravel()
    low = n_columns
    return (
        np.stack([np.stack([a, b, a + low], 1), np.stack([b, b + low, a + low], 1)], 1).reshape(-1, 3).astype(np.int32)
    )


def tube(
    curve: Array, radius: Array | float, sides: int = 8, flat: float = 1.0
) -> tuple[Array, Array, NDArray[np.int32]]:
    """A tube along curve [n, 3]: points and outward normals [n * sides, 3], triangles. flat squeezes it along z."""
    tangent = unit(np.gradient(curve, axis=0))
    up = np.where(np.abs(tangent[:, 2:3]) > 0.9, np.array([[0.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 1.0]]))
    side = unit(np.cross(tangent, up))
    up = np.cross(side, tangent)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    normal = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    r = np.broadcast_to(np.asarray(radius, float), (len(curve),))[:, None, None]
    squeeze = np.array([1.0, 1.0, flat])
    points = curve[:, None] + normal * r * squeeze
    return points.reshape(-1, 3), unit(normal / squeeze).reshape(-1, 3), grid_triangles(len(curve), sides)


def grid_normals(points: Array) -> Array:
    """Normals of an open grid [rows, columns, 3], by its two directions; the caller turns them outwards."""
    along_columns = np.gradient(points, axis=1)
    along_rows = np.gradient(points, axis=0)
    return unit(np.cross(along_columns, along_rows))
