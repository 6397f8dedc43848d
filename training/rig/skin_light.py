"""What skin does with light: n normal, v to the viewer, h half vector of the key light (unit), lit its visible share."""

import math

from numba import njit

from training.rig.light import (
    FILL_COL,
    FILL_DIR,
    KEY_COL,
    KEY_DIR,
    RIM_COL,
    RIM_DIR,
    ROTATION,
    SKY,
    WRINKLE_BROW,
    add,
    add_scaled,
    dot,
    ggx,
    hemisphere,
    mul,
    normalize,
    saturate,
    scale,
    vec3,
)


@njit(cache=True, fastmath=True)
def texel(tex, layer, u, v):
    """Bilinear place in a texture: row, column and the four weights."""
    size = tex.shape[1]
    fu = u * size - 0.5
    fv = v * size - 0.5
    iu = min(max(int(fu), 0), size - 2)
    iv = min(max(int(fv), 0), size - 2)
    return iv, iu, fv - iv, fu - iu


@njit(cache=True, fastmath=True)
def sample(t, iv, iu, fv, fu, k):
    top = t[iv, iu, k] * (1.0 - fu) + t[iv, iu + 1, k] * fu
    low = t[iv + 1, iu, k] * (1.0 - fu) + t[iv + 1, iu + 1, k] * fu
    return top * (1.0 - fv) + low * fv


@njit(cache=True, fastmath=True)
def wrapped(n_dot_l, wrap):
    """Wrapped diffuse with a soft terminator: stands in for subsurface scattering."""
    d = saturate((n_dot_l + wrap) / (1.0 + wrap))
    return d * d * (1.6 - 0.6 * d)


@njit(cache=True, fastmath=True)
def turned(uni, d):
    """A vector of the resting head in the posed head."""
    r = ROTATION
    return (
        uni[r] * d[0] + uni[r + 1] * d[1] + uni[r + 2] * d[2],
        uni[r + 3] * d[0] + uni[r + 4] * d[1] + uni[r + 5] * d[2],
        uni[r + 6] * d[0] + uni[r + 7] * d[1] + uni[r + 8] * d[2],
    )


@njit(cache=True, fastmath=True)
def skin_texture(uni, tex, layer, u, v_coord):
    """Albedo (linear), gloss, and how relief and wrinkles tilt the normal."""
    t = tex[layer]
    iv, iu, fv, fu = texel(tex, layer, u, v_coord)
    k = 1.0 / 255.0
    r = sample(t, iv, iu, fv, fu, 0) * k
    g = sample(t, iv, iu, fv, fu, 1) * k
    b = sample(t, iv, iu, fv, fu, 2) * k
    gloss = sample(t, iv, iu, fv, fu, 3) * k
    k = 1.0 / 127.0
    tilt = (
        (sample(t, iv, iu, fv, fu, 4) - 128.0) * k,
        (sample(t, iv, iu, fv, fu, 5) - 128.0) * k,
        (sample(t, iv, iu, fv, fu, 6) - 128.0) * k,
    )
    region = t[iv, iu, 7]
    if region > 0:
        amount = uni[WRINKLE_BROW + region - 1]
        if amount > 0.01:
            moving = (
                (sample(t, iv, iu, fv, fu, 8) - 128.0) * k,
                (sample(t, iv, iu, fv, fu, 9) - 128.0) * k,
                (sample(t, iv, iu, fv, fu, 10) - 128.0) * k,
            )
            tilt = add_scaled(tilt, moving, amount)
    return (r * r, g * g, b * b), gloss, turned(uni, tilt)


@njit(cache=True, fastmath=True)
def shade_skin(uni, tex, layer, u, v_coord, ao, n, v, h, lit):
    albedo, gloss, tilt = skin_texture(uni, tex, layer, u, v_coord)
    key_dir = vec3(uni, KEY_DIR)
    key = vec3(uni, KEY_COL)
    fill = vec3(uni, FILL_COL)
    fine = normalize(add(n, tilt))
    # light spreads under the skin: the broad shape and the fine relief share the diffuse light, red blurs most
    soft = normalize(add_scaled(n, tilt, 0.45))
    n_l = dot(n, key_dir)
    s_l = dot(soft, key_dir)
    f_l = dot(fine, key_dir)
    lit_red = 0.45 * lit + 0.55 * math.sqrt(lit)
    diffuse = (
        wrapped(0.5 * n_l + 0.5 * s_l, 0.42) * (0.92 * lit_red + 0.08),
        wrapped(s_l, 0.27) * (0.96 * lit + 0.04),
        wrapped(0.5 * s_l + 0.5 * f_l, 0.20) * (0.97 * lit + 0.03),
    )
    tinted_ao = (ao * (1.22 - 0.22 * ao), ao, ao * (0.92 + 0.08 * ao))
    n_f = saturate(dot(soft, FILL_DIR) * 0.6 + 0.4) * ao
    light = add(mul(key, diffuse), mul(hemisphere(uni, soft), tinted_ao))
    col = mul(albedo, add_scaled(light, fill, n_f))
    # two lobes of oil and skin, broken up by the fine relief
    n_h = saturate(dot(fine, h))
    v_h = 1.0 - max(dot(v, h), 0.0)
    v2 = v_h * v_h
    fresnel = 0.028 + 0.5 * v2 * v2 * v_h
    rough = 0.40 - 0.14 * gloss
    spec = (ggx(n_h, rough) * 0.62 + ggx(n_h, rough * 0.56) * 0.38) * fresnel
    col = add_scaled(col, key, spec * max(f_l, 0.0) * lit * gloss * 1.2)
    graze = 1.0 - max(dot(n, v), 0.0)
    graze = graze * graze * graze
    rim_amount = saturate((dot(n, vec3(uni, RIM_DIR)) + 0.3) / 1.3) * ao
    rim_col = add_scaled(scale(albedo, 0.5), (1.0, 1.0, 1.0), 0.10 * graze)
    col = add_scaled(col, mul(vec3(uni, RIM_COL), rim_col), rim_amount)
    col = add_scaled(col, vec3(uni, SKY), graze * 0.10 * ao * gloss)
    half_fill = normalize(add((-0.70, 0.235, 0.61), v))
    return add_scaled(col, fill, ggx(saturate(dot(fine, half_fill)), 0.34) * 0.05 * gloss * ao)
