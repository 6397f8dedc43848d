"""Visibility: which triangle is seen at each sample, and what the key light sees.

Only the triangle and its depth are stored; shading runs later, once per visible sample, so that the cost follows
the pixels and not the triangles. Hair and lashes are tested per sample, hair by hair, instead of blended.
"""

import math

import numpy as np
from numba import njit

from training.rig.light import fract_hash, smoothstep
from training.rig.pack import LASH

HAIR, CLOTH, GLASSES = 8, 9, 10  # materials that the pack does not have
EMPTY_DEPTH = 9.0
FLAT_EDGE = 1e-9
OVERLAP_PX = 2e-3  # without it neighbouring triangles leave pinholes


@njit(cache=True, fastmath=True)
def bounds(x0, y0, x1, y1, x2, y2, width, height):
    """First and last column and row whose sample points a triangle may cover."""
    return (
        max(math.ceil(min(x0, min(x1, x2)) - 0.5), 0),
        min(math.floor(max(x0, max(x1, x2)) - 0.5), width - 1),
        max(math.ceil(min(y0, min(y1, y2)) - 0.5), 0),
        min(math.floor(max(y0, max(y1, y2)) - 0.5), height - 1),
    )


@njit(cache=True, fastmath=True)
def edges(x0, y0, x1, y1, x2, y2, area):
    """Barycentrics w_i(x, y) = A_i x + B_i y + C_i of corners 0 and 1, as (A, B, C). Needs float64."""
    inv = 1.0 / area
    return (
        ((y1 - y2) * inv, (x2 - x1) * inv, (x1 * y2 - x2 * y1) * inv),
        ((y2 - y0) * inv, (x0 - x2) * inv, (x2 * y0 - x0 * y2) * inv),
    )  # fmt: skip


@njit(cache=True, fastmath=True)
def minus_inverse(a):
    """-1 / a, for clip_span; 0 where an edge runs along the rows."""
    return -1.0 / a if abs(a) > FLAT_EDGE else 0.0


@njit(cache=True, fastmath=True)
def clip_span(a, m, k, lo, hi):
    """Clips [lo, hi] to a x + k >= 0, m being minus_inverse(a)."""
    if a > FLAT_EDGE:
        lo = max(lo, k * m - OVERLAP_PX)
    elif a < -FLAT_EDGE:
        hi = min(hi, k * m + OVERLAP_PX)
    elif k < -1e-5:
        hi = lo - 1.0
    return lo, hi


@njit(cache=True, fastmath=True)
def row_span(e0, e1, m, y, ix0, ix1):
    """First and last sample of row y inside a triangle, and the barycentrics' constants of that row.

    m: minus_inverse of the x slopes of the three barycentrics.
    """
    k0 = e0[1] * (y + 0.5) + e0[2]
    k1 = e1[1] * (y + 0.5) + e1[2]
    lo, hi = clip_span(e0[0], m[0], k0, ix0 + 0.5, ix1 + 0.5)
    lo, hi = clip_span(e1[0], m[1], k1, lo, hi)
    lo, hi = clip_span(-e0[0] - e1[0], m[2], 1.0 - k0 - k1, lo, hi)
    if hi < lo:
        return 0, -1, k0, k1
    return math.ceil(lo - 0.5), math.floor(hi - 0.5), k0, k1


@njit(cache=True, fastmath=True)
def slopes(e0, e1):
    return (minus_inverse(e0[0]), minus_inverse(e1[0]), minus_inverse(-e0[0] - e1[0]))


@njit(cache=True, fastmath=True)
def corners_xy(screen, a, b, c):
    return (
        np.float64(screen[a, 0]), np.float64(screen[a, 1]), np.float64(screen[b, 0]), np.float64(screen[b, 1]),
        np.float64(screen[c, 0]), np.float64(screen[c, 1]),
    )  # fmt: skip


@njit(cache=True, fastmath=True)
def lash_covers(u, v, length_scale):
    """Is this uv of a lash card on a hair?"""
    if u < 0.5:
        u = 1.0 - u
    s = (v - 0.01423) / 0.16603
    row = math.floor(s + 1e-4)
    t = 1.0 - min(max((s - row) / 0.842, 0.0), 1.0)  # 0 root .. 1 tip
    upper = row > 2.5
    x = (u - 0.51) / 0.478
    count = 34.0 if upper else 24.0
    q = x * count + row * 0.37 - (x - 0.45) * (2.2 if upper else 1.6) * t
    hair = math.floor(q)
    offset = abs(q - hair - 0.5 + (fract_hash(hair + row * 31.0) - 0.5) * 0.3)
    if upper:
        length = 0.55 + 0.45 * fract_hash(hair * 1.7 + row)
    else:
        length = 0.2 + 0.25 * fract_hash(hair * 2.3 + row)
    length *= length_scale * smoothstep(0.0, 0.12, x) * (0.6 + 0.4 * smoothstep(0.1, 0.6, x))
    if not upper and length_scale < 0.7:
        return False
    return t <= length and offset < (0.34 if upper else 0.13) * (1.0 - t / max(length, 0.02)) + 0.02


@njit(cache=True, fastmath=True)
def rasterize(screen, tri, material, attr, first, last, depth, tri_id, lash_length):
    """Solid triangles and lashes into depth and tri_id [P, P]."""
    height, width = depth.shape
    for t in range(first, last):
        a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
        m = material[t]
        x0, y0, x1, y1, x2, y2 = corners_xy(screen, a, b, c)
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0 or (area > 0 and m < LASH):
            continue  # seen from behind
        ix0, ix1, iy0, iy1 = bounds(x0, y0, x1, y1, x2, y2, width, height)
        if ix1 < ix0 or iy1 < iy0:
            continue
        e0, e1 = edges(x0, y0, x1, y1, x2, y2, area)
        slope = slopes(e0, e1)
        z0, z1, z2 = screen[a, 2], screen[b, 2], screen[c, 2]
        for y in range(iy0, iy1 + 1):
            x_first, x_last, k0, k1 = row_span(e0, e1, slope, y, ix0, ix1)
            for x in range(x_first, x_last + 1):
                w0 = e0[0] * (x + 0.5) + k0
                w1 = e1[0] * (x + 0.5) + k1
                w2 = 1.0 - w0 - w1
                z = w0 * z0 + w1 * z1 + w2 * z2
                if z >= depth[y, x]:
                    continue
                if m == LASH:
                    u = w0 * attr[a, 0] + w1 * attr[b, 0] + w2 * attr[c, 0]
                    v = w0 * attr[a, 1] + w1 * attr[b, 1] + w2 * attr[c, 1]
                    if not lash_covers(u, v, lash_length):
                        continue
                depth[y, x] = z
                tri_id[y, x] = t


@njit(cache=True, fastmath=True)
def to_light(m, world, i, size):
    x = ((m[0, 0] * world[i, 0] + m[0, 1] * world[i, 1] + m[0, 2] * world[i, 2] + m[0, 3]) * 0.5 + 0.5) * size
    y = ((m[1, 0] * world[i, 0] + m[1, 1] * world[i, 1] + m[1, 2] * world[i, 2] + m[1, 3]) * 0.5 + 0.5) * size
    return np.float64(x), np.float64(y), m[2, 0] * world[i, 0] + m[2, 1] * world[i, 1] + m[2, 2] * world[i, 2] + m[2, 3]


@njit(cache=True, fastmath=True)
def rasterize_shadow(world, tri, light, shadow, two_sided):
    """Depth from the key light into shadow [size, size]."""
    size = shadow.shape[0]
    for t in range(tri.shape[0]):
        x0, y0, z0 = to_light(light, world, tri[t, 0], size)
        x1, y1, z1 = to_light(light, world, tri[t, 1], size)
        x2, y2, z2 = to_light(light, world, tri[t, 2], size)
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0 or (area < 0 and not two_sided):
            continue
        ix0, ix1, iy0, iy1 = bounds(x0, y0, x1, y1, x2, y2, size, size)
        if ix1 < ix0 or iy1 < iy0:
            continue
        e0, e1 = edges(x0, y0, x1, y1, x2, y2, area)
        slope = slopes(e0, e1)
        for y in range(iy0, iy1 + 1):
            x_first, x_last, k0, k1 = row_span(e0, e1, slope, y, ix0, ix1)
            for x in range(x_first, x_last + 1):
                w0 = e0[0] * (x + 0.5) + k0
                w1 = e1[0] * (x + 0.5) + k1
                z = w0 * z0 + w1 * z1 + (1 - w0 - w1) * z2
                if z < shadow[y, x]:
                    shadow[y, x] = z


@njit(cache=True, fastmath=True)
def surface_rest(tri_id, tri, screen, scale, clip_w, rest, out):
    """Rest position [S, S, 3] of the surface seen at each pixel centre, perspective-correct; NaN where empty."""
    height, width = tri_id.shape
    for y in range(height):
        for x in range(width):
            t = tri_id[y, x]
            if t < 0:
                for k in range(3):
                    out[y, x, k] = np.nan
                continue
            a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
            fx = x + 0.5
            fy = y + 0.5
            x0, y0 = screen[a, 0] * scale - fx, screen[a, 1] * scale - fy
            x1, y1 = screen[b, 0] * scale - fx, screen[b, 1] * scale - fy
            x2, y2 = screen[c, 0] * scale - fx, screen[c, 1] * scale - fy
            w0 = (x1 * y2 - x2 * y1) / clip_w[a]
            w1 = (x2 * y0 - x0 * y2) / clip_w[b]
            w2 = (x0 * y1 - x1 * y0) / clip_w[c]
            total = w0 + w1 + w2
            for k in range(3):
                out[y, x, k] = (w0 * rest[a, k] + w1 * rest[b, k] + w2 * rest[c, k]) / total
