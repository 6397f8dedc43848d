"""Small maths of the shading kernels: 3-tuples stay in registers, the light's uniforms lie in one vector."""

import math

from numba import njit

# Layout of the uniform vector: directions, linear colours, scalars
KEY_DIR, KEY_COL, FILL_COL, SKY, GROUND, RIM_DIR, RIM_COL = 0, 3, 6, 9, 12, 15, 18
IRIS, MOUTH_Z, PUPIL, HAIR_ROOT, HAIR_TIP, CLOTH_COL, CLOTH_TRIM, KNIT = 21, 24, 25, 26, 29, 32, 35, 38
GREY, LANES, FRAME_COL, LASH_COL, WRINKLE_BROW, WRINKLE_FROWN, WRINKLE_SMILE, ROTATION = 39, 40, 41, 44, 47, 48, 49, 50
N_UNIFORMS = 59

FILL_DIR = (-0.754, 0.05, 0.654)


@njit(cache=True, fastmath=True)
def fract_hash(x):
    s = math.sin(x * 127.1) * 43758.5
    return s - math.floor(s)


@njit(cache=True, fastmath=True)
def smoothstep(a, b, x):
    t = min(max((x - a) / (b - a), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@njit(cache=True, fastmath=True)
def saturate(x):
    return min(max(x, 0.0), 1.0)


@njit(cache=True, fastmath=True)
def vec3(array, i):
    return (array[i], array[i + 1], array[i + 2])


@njit(cache=True, fastmath=True)
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True, fastmath=True)
def add(a, b):
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


@njit(cache=True, fastmath=True)
def mul(a, b):
    return (a[0] * b[0], a[1] * b[1], a[2] * b[2])


@njit(cache=True, fastmath=True)
def scale(a, k):
    return (a[0] * k, a[1] * k, a[2] * k)


@njit(cache=True, fastmath=True)
def add_scaled(a, b, k):
    return (a[0] + b[0] * k, a[1] + b[1] * k, a[2] + b[2] * k)


@njit(cache=True, fastmath=True)
def mix(a, b, t):
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


@njit(cache=True, fastmath=True)
def normalize(a):
    return scale(a, 1.0 / math.sqrt(dot(a, a) + 1e-12))


@njit(cache=True, fastmath=True)
def interpolate(rows, a, b, c, w0, w1, w2):
    return (
        w0 * rows[a, 0] + w1 * rows[b, 0] + w2 * rows[c, 0],
        w0 * rows[a, 1] + w1 * rows[b, 1] + w2 * rows[c, 1],
        w0 * rows[a, 2] + w1 * rows[b, 2] + w2 * rows[c, 2],
    )


@njit(cache=True, fastmath=True)
def ggx(n_dot_h, roughness):
    """Trowbridge-Reitz distribution; roughness is alpha."""
    a2 = roughness * roughness
    d = n_dot_h * n_dot_h * (a2 - 1.0) + 1.0
    return a2 / (3.14159 * d * d)


@njit(cache=True, fastmath=True)
def hemisphere(uni, n):
    """Light of the room: ground below, sky above."""
    return mix(vec3(uni, GROUND), vec3(uni, SKY), n[1] * 0.5 + 0.5)


@njit(cache=True, fastmath=True)
def light_visibility(shadow, m, p, bias):
    """Share of the key light at a point: 4x4 tent over the shadow map."""
    size = shadow.shape[0]
    fx = ((m[0, 0] * p[0] + m[0, 1] * p[1] + m[0, 2] * p[2] + m[0, 3]) * 0.5 + 0.5) * size - 0.5
    fy = ((m[1, 0] * p[0] + m[1, 1] * p[1] + m[1, 2] * p[2] + m[1, 3]) * 0.5 + 0.5) * size - 0.5
    z = m[2, 0] * p[0] + m[2, 1] * p[1] + m[2, 2] * p[2] + m[2, 3] - bias
    ix = math.floor(fx)
    iy = math.floor(fy)
    if ix < 2 or iy < 2 or ix > size - 4 or iy > size - 4:
        return 1.0
    tx = fx - ix
    ty = fy - iy
    total = 0.0
    for j in range(-1, 3):
        wy = (1.0 - ty) if j == -1 else (ty if j == 2 else 1.0)
        for i in range(-1, 3):
            if z < shadow[iy + j, ix + i]:
                wx = (1.0 - tx) if i == -1 else (tx if i == 2 else 1.0)
                total += wx * wy
    return total / 9.0
