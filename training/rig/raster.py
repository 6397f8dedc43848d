"""Visibility: which triangle is seen at each sample, and what the key light sees.

Only the triangle and its depth are stored; shading runs later, once per visible sample, so that the cost follows
the pixels and not the triangles. Hair and lashes are tested per sample, hair by hair, instead of blended.
"""

import math

import numpy as np
from numba import njit

from training.rig.light import fract_hash, smoothstep
from training.rig.pack import BACK, LASH

HAIR, CLOTH, GLASSES = 8, 9, 10  # materials that the pack does not have
EMPTY_DEPTH = 9.0
OVERLAP_PX = 2e-3  # without it neighbouring triangles leave pinholes


@njit(cache=True, fastmath=True)
def edge_setup(x0, y0, x1, y1, x2, y2, area):
    """Affine barycentric weights w_i(x, y) = A_i x + B_i y + C_i. Needs float64."""
    inv = 1.0 / area
    return (
        (y1 - y2) * inv, (x2 - x1) * inv, (x1 * y2 - x2 * y1) * inv,
        (y2 - y0) * inv, (x0 - x2) * inv, (x2 * y0 - x0 * y2) * inv,
    )  # fmt: skip


@njit(cache=True, fastmath=True)
def clip_span(a, k, lo, hi):
    """Clips [lo, hi] to a x + k >= 0."""
    if a > 1e-9:
        lo = max(lo, -k / a - OVERLAP_PX)
    elif a < -1e-9:
        hi = min(hi, -k / a + OVERLAP_PX)
    elif k < -1e-5:
        hi = lo - 1.0
    return lo, hi


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
def hair_lane(across, seed, lanes):
    """A ribbon carries several hairs side by side: (random number of the hair, place across it 0..1)."""
    q = (across * 0.5 + 0.5) * lanes
    lane = min(max(math.floor(q), 0.0), lanes - 1.0)
    return fract_hash(seed * 91.7 + lane * 3.31), q - lane


@njit(cache=True, fastmath=True)
def hair_covers(along, across, seed, density, lanes):
    """Is there a hair at this place of a ribbon? Hairs start and end at their own places and taper off."""
    h, f = hair_lane(across, seed, lanes)
    h2 = h * 7.13 - math.floor(h * 7.13)
    if h2 > density + along * 1.5:
        return False
    tip = 0.72 + 0.28 * h
    if along > tip or along < 0.05 * h2 * (1.0 - density):
        return False
    width = 0.5 * min(1.0, (tip - along) * 4.5 + 0.12)
    return abs(f - 0.5) <= width


@njit(cache=True, fastmath=True)
def rasterize(screen, tri, material, attr, depth, tri_id, lash_length, lanes, world, normal):
    """Fills depth and tri_id [P, P], row by row: bounding boxes are mostly empty for hair."""
    height, width = depth.shape
    for t in range(tri.shape[0]):
        a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
        x0, y0 = np.float64(screen[a, 0]), np.float64(screen[a, 1])
        x1, y1 = np.float64(screen[b, 0]), np.float64(screen[b, 1])
        x2, y2 = np.float64(screen[c, 0]), np.float64(screen[c, 1])
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        m = material[t]
        if area == 0 or (area > 0 and m < LASH):
            continue  # seen from behind
        if m == HAIR and normal[a, 2] < -0.7 and world[a, 1] > -2.0:
            continue  # hair on the far side of the skull
        ix0 = max(int(math.ceil(min(x0, min(x1, x2)) - 0.5)), 0)
        ix1 = min(int(math.floor(max(x0, max(x1, x2)) - 0.5)), width - 1)
        iy0 = max(int(math.ceil(min(y0, min(y1, y2)) - 0.5)), 0)
        iy1 = min(int(math.floor(max(y0, max(y1, y2)) - 0.5)), height - 1)
        if ix1 < ix0 or iy1 < iy0:
            continue
        z0, z1, z2 = screen[a, 2], screen[b, 2], screen[c, 2]
        a0, b0, c0, a1, b1, c1 = edge_setup(x0, y0, x1, y1, x2, y2, area)
        for y in range(iy0, iy1 + 1):
            k0 = b0 * (y + 0.5) + c0
            k1 = b1 * (y + 0.5) + c1
            lo, hi = clip_span(a0, k0, ix0 + 0.5, ix1 + 0.5)
            lo, hi = clip_span(a1, k1, lo, hi)
            lo, hi = clip_span(-a0 - a1, 1.0 - k0 - k1, lo, hi)
            if hi < lo:
                continue
            for x in range(int(math.ceil(lo - 0.5)), int(math.floor(hi - 0.5)) + 1):
                w0 = a0 * (x + 0.5) + k0
                w1 = a1 * (x + 0.5) + k1
                w2 = 1.0 - w0 - w1
                z = w0 * z0 + w1 * z1 + w2 * z2
                if z >= depth[y, x]:
                    continue
                if m == LASH:
                    u = w0 * attr[a, 0] + w1 * attr[b, 0] + w2 * attr[c, 0]
                    v = w0 * attr[a, 1] + w1 * attr[b, 1] + w2 * attr[c, 1]
                    if not lash_covers(u, v, lash_length):
                        continue
                elif m == HAIR:
                    along = w0 * attr[a, 0] + w1 * attr[b, 0] + w2 * attr[c, 0]
                    across = w0 * attr[a, 3] + w1 * attr[b, 3] + w2 * attr[c, 3]
                    if not hair_covers(along, across, attr[a, 4], attr[a, 5], lanes):
                        continue
                depth[y, x] = z
                tri_id[y, x] = t


@njit(cache=True, fastmath=True)
def to_light(m, world, i, size):
    x = ((m[0, 0] * world[i, 0] + m[0, 1] * world[i, 1] + m[0, 2] * world[i, 2] + m[0, 3]) * 0.5 + 0.5) * size
    y = ((m[1, 0] * world[i, 0] + m[1, 1] * world[i, 1] + m[1, 2] * world[i, 2] + m[1, 3]) * 0.5 + 0.5) * size
    return x, y, m[2, 0] * world[i, 0] + m[2, 1] * world[i, 1] + m[2, 2] * world[i, 2] + m[2, 3]


@njit(cache=True, fastmath=True)
def rasterize_shadow(world, tri, material, light, shadow, first, last, step):
    """Depth from the key light; step > 1 takes every step-th block of hair."""
    size = shadow.shape[0]
    for t in range(first, last):
        if step > 1 and ((t - first) // 64) % step != 0:
            continue
        x0, y0, z0 = to_light(light, world, tri[t, 0], size)
        x1, y1, z1 = to_light(light, world, tri[t, 1], size)
        x2, y2, z2 = to_light(light, world, tri[t, 2], size)
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0 or (area < 0 and material[t] <= BACK):
            continue
        ix0 = max(int(math.ceil(min(x0, min(x1, x2)) - 0.5)), 0)
        ix1 = min(int(math.floor(max(x0, max(x1, x2)) - 0.5)), size - 1)
        iy0 = max(int(math.ceil(min(y0, min(y1, y2)) - 0.5)), 0)
        iy1 = min(int(math.floor(max(y0, max(y1, y2)) - 0.5)), size - 1)
        if ix1 < ix0 or iy1 < iy0:
            continue
        a0, b0, c0, a1, b1, c1 = edge_setup(
            np.float64(x0), np.float64(y0), np.float64(x1), np.float64(y1), np.float64(x2), np.float64(y2),
            np.float64(area),
        )  # fmt: skip
        for y in range(iy0, iy1 + 1):
            k0 = b0 * (y + 0.5) + c0
            k1 = b1 * (y + 0.5) + c1
            lo, hi = clip_span(a0, k0, ix0 + 0.5, ix1 + 0.5)
            lo, hi = clip_span(a1, k1, lo, hi)
            lo, hi = clip_span(-a0 - a1, 1.0 - k0 - k1, lo, hi)
            if hi < lo:
                continue
            for x in range(int(math.ceil(lo - 0.5)), int(math.floor(hi - 0.5)) + 1):
                w0 = a0 * (x + 0.5) + k0
                w1 = a1 * (x + 0.5) + k1
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
