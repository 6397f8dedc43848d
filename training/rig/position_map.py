"""Which point of the head lies at each texel of its texture."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from training.rig.picture import fill_empty
from training.rig.raster import bounds, edges, row_span, slopes

FULL_SIZE = 1024  # the pack stores every second texel of a map of this size


@njit(cache=True)
def _draw(points, uv, triangles, out):
    size = out.shape[0]
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0 = np.float64(uv[a, 0]) * size, np.float64(uv[a, 1]) * size
        x1, y1 = np.float64(uv[b, 0]) * size, np.float64(uv[b, 1]) * size
        x2, y2 = np.float64(uv[c, 0]) * size, np.float64(uv[c, 1]) * size
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0:
            continue
        ix0, ix1, iy0, iy1 = bounds(x0, y0, x1, y1, x2, y2, size, size)
        e0, e1 = edges(x0, y0, x1, y1, x2, y2, area)
        slope = slopes(e0, e1)
        for y in range(iy0, iy1 + 1):
            first, last, k0, k1 = row_span(e0, e1, slope, y, ix0, ix1)
            for x in range(first, last + 1):
                w0 = e0[0] * (x + 0.5) + k0
                w1 = e1[0] * (x + 0.5) + k1
                for k in range(3):
                    out[y, x, k] = w0 * points[a, k] + w1 * points[b, k] + (1 - w0 - w1) * points[c, k]
                out[y, x, 3] = 1


def position_map(
    points: NDArray[np.float32], uv: NDArray[np.float32], triangles: NDArray[np.int32]
) -> NDArray[np.float16]:
    """[512, 512, 3] float16 cm, row 0 is v 0: corner points [M, 3] at uv [M, 2]; gaps take their surroundings."""
    drawn = np.zeros((FULL_SIZE, FULL_SIZE, 4), np.float32)
    _draw(points, uv, triangles, drawn)
    fill_empty(drawn)
    return (drawn[::2, ::2, :3] / np.maximum(drawn[::2, ::2, 3:], 1e-12)).astype(np.float16)
