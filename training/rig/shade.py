"""From visible triangles to pixels: every sample is shaded, tone-mapped and averaged to a premultiplied picture.

Smooth materials (skin, cloth) are shaded once a pixel and surface, hair once a pixel and hair, the rest at every sample.
"""

import numpy as np
from numba import njit

from training.rig.hair_raster import hair_lane
from training.rig.light import KEY_DIR, LASH_COL, add, add_scaled, dot, interpolate, light_visibility, normalize, vec3
from training.rig.materials import shade_cloth, shade_eye, shade_glasses, shade_hair, shade_mouth
from training.rig.pack import BACK, EYE_LEFT, EYE_RIGHT, LASH, MOUTH, TEETH
from training.rig.raster import CLOTH, GLASSES, HAIR
from training.rig.skin_light import shade_skin

SAME_SURFACE = 0.0022  # depth: about half a centimetre
TONE_STEPS = 1024  # table entries per unit of linear light


def _tone_table():
    """Linear light x 1024 -> sRGB 0..255 through the ACES fit. Source: Narkowicz 2015, ACES filmic tone mapping curve."""
    light = np.arange(4 * TONE_STEPS) / TONE_STEPS + 0.5 / TONE_STEPS
    aces = (light * (2.51 * light + 0.03)) / (light * (2.43 * light + 0.59) + 0.14)
    return (255 * np.clip(aces, 0, 1) ** (1 / 2.2)).astype(np.float32)


TONE = _tone_table()


@njit(cache=True, fastmath=True)
def toned(table, light):
    return table[max(min(int(light * 1024.0), 4095), 0)]


@njit(cache=True, fastmath=True)
def barycentric(screen, a, b, c, fx, fy):
    """Weights of a triangle's corners at a sample, kept near the triangle when it does not cover the sample."""
    x0, y0 = screen[a, 0] - fx, screen[a, 1] - fy
    x1, y1 = screen[b, 0] - fx, screen[b, 1] - fy
    x2, y2 = screen[c, 0] - fx, screen[c, 1] - fy
    inv = 1.0 / ((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0))
    w0 = min(max((x1 * y2 - x2 * y1) * inv, -0.5), 1.5)
    w1 = min(max((x2 * y0 - x0 * y2) * inv, -0.5), 1.5)
    return w0, w1, 1.0 - w0 - w1


@njit(cache=True, fastmath=True)
def shade_at(
    a, b, c, m, w0, w1, w2, number, world, normal, unposed, attr, tangent, tex, shadow, light, camera, uni, lids
):  # fmt: skip
    """Linear RGB of material m at barycentric weights of corners a, b, c; number: the hair's random numbers."""
    n = normalize(interpolate(normal, a, b, c, w0, w1, w2))
    p = interpolate(world, a, b, c, w0, w1, w2)
    v = normalize((camera[0] - p[0], camera[1] - p[1], camera[2] - p[2]))
    h = normalize(add(vec3(uni, KEY_DIR), v))
    at = interpolate(attr, a, b, c, w0, w1, w2)
    facing = n if dot(n, v) > 0 else (-n[0], -n[1], -n[2])
    lit = light_visibility(shadow, light, add_scaled(p, facing, 0.12), 0.0035)
    if m <= BACK:
        return shade_skin(uni, tex, m, at[0], at[1], at[2], n, v, h, lit)
    if m == MOUTH or m == TEETH:  # noqa: SIM109 - compiled
        return shade_mouth(uni, m == TEETH, interpolate(unposed, a, b, c, w0, w1, w2), n, v, h, lit)
    if m == EYE_LEFT or m == EYE_RIGHT:  # noqa: SIM109 - compiled
        return shade_eye(uni, lids[m - EYE_LEFT], at, interpolate(unposed, a, b, c, w0, w1, w2), n, v, h, lit)
    if m == LASH:
        return vec3(uni, LASH_COL)
    if m == CLOTH:
        return shade_cloth(uni, at[0], at[1], at[2], p, n, v, lit)
    if m == GLASSES:
        return shade_glasses(uni, n, v, h, lit)
    along_hair = interpolate(tangent, a, b, c, w0, w1, w2)
    return shade_hair(uni, along_hair, at[0], at[1], at[2], number[0], number[1], n, v, h, lit)


@njit(cache=True, fastmath=True)
def shade(
    tri_id, depth, samples, tri, material, screen, world, normal, unposed, attr, tangent, numbers, tex, shadow, light,
    camera, uni, lids, table, out,
):  # fmt: skip
    """out [S, S, 4] float32: premultiplied sRGB 0..255 and coverage 0..1, from samples x samples a pixel."""
    share = 1.0 / (samples * samples)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            red, green, blue, count = 0.0, 0.0, 0.0, 0
            kept, kept_depth, kept_hair = -1, 0.0, -1  # what was last shaded in this pixel
            kr, kg, kb = 0.0, 0.0, 0.0
            for sy in range(y * samples, (y + 1) * samples):
                for sx in range(x * samples, (x + 1) * samples):
                    t = tri_id[sy, sx]
                    if t < 0:
                        continue
                    count += 1
                    m = material[t]
                    smooth = m <= BACK or m == CLOTH
                    if not (smooth and m == kept and abs(depth[sy, sx] - kept_depth) < SAME_SURFACE):
                        a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
                        fx = (x + 0.5) * samples if smooth else sx + 0.5
                        fy = (y + 0.5) * samples if smooth else sy + 0.5
                        w0, w1, w2 = barycentric(screen, a, b, c, fx, fy)
                        lock, lane, hair = 0, 0, -1
                        if m == HAIR:
                            lock = int(attr[a, 4])
                            across = w0 * attr[a, 3] + w1 * attr[b, 3] + w2 * attr[c, 3]
                            lane, _ = hair_lane(across, numbers.shape[1])
                            hair = lock * numbers.shape[1] + lane
                        if hair < 0 or hair != kept_hair:
                            col = shade_at(
                                a, b, c, m, w0, w1, w2, numbers[lock, lane], world, normal, unposed, attr, tangent,
                                tex, shadow, light, camera, uni, lids,
                            )  # fmt: skip
                            kr, kg, kb = toned(table, col[0]), toned(table, col[1]), toned(table, col[2])
                        kept = m if smooth else -1
                        kept_depth = depth[sy, sx]
                        kept_hair = hair
                    red += kr
                    green += kg
                    blue += kb
            out[y, x, 0] = red * share
            out[y, x, 1] = green * share
            out[y, x, 2] = blue * share
            out[y, x, 3] = count * share
