"""Visibility of hair: ribbons that carry several hairs side by side, drawn over the solid surfaces.

Whether a hair covers a sample is tested hair by hair; ribbons behind what their tiles already show are skipped.
"""

import math

import numpy as np
from numba import njit

from training.rig.raster import bounds, corners_xy, edges, row_span, slopes

TILE = 8  # samples


def number_lanes(seeds, lanes):
    """Random numbers [locks, lanes, 2] of the hairs that each ribbon carries side by side: place and tone, grey."""

    def fract_of_sine(x):
        s = np.sin(x * 127.1) * 43758.5
        return s - np.floor(s)

    seed = np.asarray(seeds, np.float64)[:, None]
    number = fract_of_sine(seed * 91.7 + np.arange(lanes) * 3.31)
    return np.stack([number, fract_of_sine(number * 57.0 + seed)], -1).astype(np.float32)


@njit(cache=True, fastmath=True)
def hair_lane(across, lanes):
    """Which hair of the ribbon, and the place across it 0..1."""
    q = (across * 0.5 + 0.5) * lanes
    lane = min(max(math.floor(q), 0), lanes - 1)
    return lane, q - lane


@njit(cache=True, fastmath=True)
def hair_covers(along, across, density, numbers):
    """Is there a hair at this place of a ribbon? Hairs start and end at their own places and taper off."""
    lane, f = hair_lane(across, numbers.shape[0])
    h = numbers[lane, 0]
    h2 = h * 7.13 - math.floor(h * 7.13)
    if h2 > density + along * 1.5:
        return False
    tip = 0.72 + 0.28 * h
    if along > tip or along < 0.05 * h2 * (1.0 - density):
        return False
    return abs(f - 0.5) <= 0.5 * min(1.0, (tip - along) * 4.5 + 0.12)


@njit(cache=True, fastmath=True)
def farthest(depth, tile_y, tile_x):
    """Largest depth of a tile: what lies behind it is hidden."""
    far = depth[tile_y * TILE, tile_x * TILE]
    for y in range(tile_y * TILE, min((tile_y + 1) * TILE, depth.shape[0])):
        for x in range(tile_x * TILE, min((tile_x + 1) * TILE, depth.shape[1])):
            far = max(far, depth[y, x])
    return far


@njit(cache=True, fastmath=True)
def hidden(far, nearest, ix0, ix1, iy0, iy1):
    """Is a triangle behind all tiles that it touches?"""
    for ty in range(iy0 // TILE, iy1 // TILE + 1):
        for tx in range(ix0 // TILE, ix1 // TILE + 1):
            if nearest < far[ty, tx]:
                return False
    return True


@njit(cache=True, fastmath=True)
def rasterize_hair(screen, tri, attr, numbers, first, last, depth, tri_id, world, normal):
    """Hair over the solid surfaces; nearest locks should come first, so that those behind are found hidden early."""
    height, width = depth.shape
    tiles_y, tiles_x = (height + TILE - 1) // TILE, (width + TILE - 1) // TILE
    far = np.empty((tiles_y, tiles_x), np.float32)
    writes = np.zeros((tiles_y, tiles_x), np.int32)
    for ty in range(tiles_y):
        for tx in range(tiles_x):
            far[ty, tx] = farthest(depth, ty, tx)
    for t in range(first, last):
        a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
        if normal[a, 2] < -0.7 and world[a, 1] > -2.0:
            continue  # on the far side of the skull
        x0, y0, x1, y1, x2, y2 = corners_xy(screen, a, b, c)
        ix0, ix1, iy0, iy1 = bounds(x0, y0, x1, y1, x2, y2, width, height)
        z0, z1, z2 = screen[a, 2], screen[b, 2], screen[c, 2]
        if ix1 < ix0 or iy1 < iy0 or hidden(far, min(z0, min(z1, z2)), ix0, ix1, iy0, iy1):
            continue
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0:
            continue
        e0, e1 = edges(x0, y0, x1, y1, x2, y2, area)
        slope = slopes(e0, e1)
        lock = numbers[int(attr[a, 4])]
        density = attr[a, 5]
        for y in range(iy0, iy1 + 1):
            x_first, x_last, k0, k1 = row_span(e0, e1, slope, y, ix0, ix1)
            for x in range(x_first, x_last + 1):
                w0 = e0[0] * (x + 0.5) + k0
                w1 = e1[0] * (x + 0.5) + k1
                w2 = 1.0 - w0 - w1
                z = w0 * z0 + w1 * z1 + w2 * z2
                if z >= depth[y, x]:
                    continue
                along = w0 * attr[a, 0] + w1 * attr[b, 0] + w2 * attr[c, 0]
                across = w0 * attr[a, 3] + w1 * attr[b, 3] + w2 * attr[c, 3]
                if not hair_covers(along, across, density, lock):
                    continue
                depth[y, x] = z
                tri_id[y, x] = t
                writes[y // TILE, x // TILE] += 1
                if writes[y // TILE, x // TILE] >= TILE * TILE:
                    writes[y // TILE, x // TILE] = 0
                    far[y // TILE, x // TILE] = farthest(depth, y // TILE, x // TILE)
