"""What each material but skin does with light: mouth, eyes, hair, cloth, glasses.

n normal, v to the viewer, h half vector of the key light (all unit), lit = share of key light. Results are linear RGB.
"""

import math

from numba import njit

from training.rig.light import (
    CLOTH_COL,
    CLOTH_TRIM,
    FILL_COL,
    FILL_DIR,
    FRAME_COL,
    GREY,
    HAIR_ROOT,
    HAIR_TIP,
    IRIS,
    KEY_COL,
    KEY_DIR,
    KNIT,
    MOUTH_Z,
    PUPIL,
    RIM_COL,
    RIM_DIR,
    SKY,
    add,
    add_scaled,
    dot,
    ggx,
    hemisphere,
    mix,
    mul,
    normalize,
    saturate,
    scale,
    smoothstep,
    vec3,
)


@njit(cache=True, fastmath=True)
def shade_mouth(uni, is_teeth, rest, n, v, h, lit):
    """Teeth, gums and tongue: wet, and darker the deeper they lie behind the lips."""
    key = vec3(uni, KEY_COL)
    depth = saturate((uni[MOUTH_Z] - rest[2]) / 4.4)
    occlusion = 1.0 - 0.94 * depth * depth * (3 - 2 * depth)
    n_l = saturate((dot(n, vec3(uni, KEY_DIR)) + 0.4) / 1.4)
    if is_teeth:
        side = smoothstep(0.6, 2.6, abs(rest[0]))
        albedo = mix((0.70, 0.655, 0.575), (0.52, 0.42, 0.33), side * 0.6)
        shine = 0.05
    else:
        albedo = mix((0.36, 0.105, 0.105), (0.52, 0.20, 0.19), smoothstep(8.0, 9.8, rest[2]))
        grain = 0.5 + 0.5 * math.sin(rest[0] * 31.0 + 5.0 * math.sin(rest[2] * 17.0))
        albedo = scale(albedo, 0.92 + 0.12 * grain)
        shine = 0.035
    lit = lit + (1 - lit) * 0.35
    light = add_scaled(scale(hemisphere(uni, n), 0.8), key, n_l * lit * 0.85)
    warm = (occlusion, occlusion * (0.86 + 0.14 * occlusion), occlusion * (0.80 + 0.20 * occlusion))
    col = mul(mul(albedo, light), warm)
    return add_scaled(col, key, ggx(saturate(dot(n, h)), 0.16) * shine * occlusion * lit)


@njit(cache=True, fastmath=True)
def eye_albedo(uni, d):
    """Sclera and iris painted from the unit direction d in the eye's frame (+z the pupil)."""
    key_dir = vec3(uni, KEY_DIR)
    pupil = uni[PUPIL]
    r = math.sqrt(d[0] * d[0] + d[1] * d[1]) / max(d[2], 0.2)
    angle = math.atan2(d[1], d[0])
    rr = r / 0.47  # 1 at the limbus
    sclera = mix((0.66, 0.635, 0.615), (0.56, 0.40, 0.36), smoothstep(0.62, 1.7, r) * 0.75)
    vein = math.sin(angle * 17.0 + 4.0 * math.sin(r * 9.0 + angle * 3.0))
    sclera = mul(
        sclera, mix((1.0, 1.0, 1.0), (1.0, 0.80, 0.78), 0.35 * smoothstep(0.93, 1.0, vein) * smoothstep(0.7, 1.3, r))
    )
    fibres = 0.5 + 0.3 * math.sin(angle * 46.0 + 3.0 * math.sin(angle * 7.0) + 2.0 * rr)
    fibres += 0.2 * math.sin(angle * 91.0 + 1.3 + 3.0 * math.sin(angle * 13.0))
    k = 0.55 + 0.6 * fibres * smoothstep(0.25, 0.9, rr) + 0.35 * (1 - smoothstep(0.4, 0.75, rr))
    e = (1 - smoothstep(0.40, 0.66, rr)) * 0.6
    iris = mul(scale(vec3(uni, IRIS), k), (1 + 0.4 * e, 1 + 0.15 * e, 1 - 0.25 * e))
    q = 1.0 / (math.sqrt(d[0] * d[0] + d[1] * d[1] + 1e-6) * math.sqrt(key_dir[0] ** 2 + key_dir[1] ** 2))
    # the cornea gathers light on the side of the iris away from the key light
    caustic = min(max(0.8 - 0.95 * (d[0] * key_dir[0] + d[1] * key_dir[1]) * q * rr, 0.4), 1.8)
    caustic *= (1.0 - 0.8 * smoothstep(0.76, 0.98, rr)) * smoothstep(pupil, pupil + 0.07, rr)
    return mix(scale(iris, caustic), sclera, smoothstep(0.92, 1.12, rr)), r


@njit(cache=True, fastmath=True)
def shade_eye(uni, lid, direction, rest, n, v, h, lit):
    """Eyeball under its lids: lid = (top y, bottom y, curvature, centre x)."""
    key = vec3(uni, KEY_COL)
    albedo, r = eye_albedo(uni, normalize(direction))
    n_l = saturate((dot(n, vec3(uni, KEY_DIR)) + 0.4) / 1.4)
    light = add_scaled(scale(hemisphere(uni, n), 1.05), key, n_l * (lit + (1 - lit) * 0.4))
    col = mul(albedo, add_scaled(light, vec3(uni, FILL_COL), 0.35))
    below_top = lid[0] + lid[2] * (rest[0] - lid[3]) ** 2 - rest[1]
    above_bottom = rest[1] - lid[1]
    k = 0.28 + 0.72 * smoothstep(-0.04, 0.52, below_top)
    k *= 0.78 + 0.22 * smoothstep(-0.1, 0.25, above_bottom)
    k *= 1.0 - 0.5 * smoothstep(0.75, 1.5, r)
    col = mul(col, (k * (1.12 - 0.12 * k), k, k * (0.96 + 0.04 * k)))
    # tear line on the lower lid, window and key light on the cornea
    wet = smoothstep(0.13, 0.03, above_bottom) * smoothstep(-0.08, 0.02, above_bottom)
    col = add_scaled(col, (0.16, 0.155, 0.15), wet * (0.3 + 0.7 * lit) * 0.22)
    glint = smoothstep(0.9950, 0.9978, dot(n, h)) * 1.6 * (0.3 * lit + 0.7)
    half_window = normalize(add((-0.49, 0.44, 0.78), v))
    glint += smoothstep(0.9925, 0.9965, dot(n, half_window)) * 0.28
    glint *= smoothstep(-0.05, 0.25, below_top)
    reflected_y = 2 * dot(n, v) * n[1] - v[1]
    sky_amount = smoothstep(0.1, 0.6, reflected_y) * 0.06 * smoothstep(0.0, 0.4, below_top)
    return add_scaled(add(col, (glint, glint, glint)), vec3(uni, SKY), sky_amount)


@njit(cache=True, fastmath=True)
def shade_cloth(uni, trim, v_coord, ao, world, n, v, lit):
    if dot(n, v) < 0:
        n = scale(n, -1.0)
    albedo = mix(vec3(uni, CLOTH_COL), vec3(uni, CLOTH_TRIM), trim)
    weave = math.sin(v_coord * 2200.0) * math.sin(world[1] * 34.0)
    albedo = scale(albedo, 1.0 - uni[KNIT] * 0.07 * weave)
    n_l = saturate((dot(n, vec3(uni, KEY_DIR)) + 0.15) / 1.15) * (0.92 * lit + 0.08)
    graze = 1.0 - abs(dot(n, v))
    graze = graze * graze * graze * 0.5 * ao
    light = add_scaled(scale(hemisphere(uni, n), ao), vec3(uni, KEY_COL), n_l * (0.4 + 0.6 * ao))
    light = add_scaled(light, vec3(uni, FILL_COL), 0.6 * saturate(dot(n, FILL_DIR)) * ao)
    light = add_scaled(light, vec3(uni, RIM_COL), 0.5 * saturate(dot(n, vec3(uni, RIM_DIR))))
    return mul(albedo, add_scaled(light, vec3(uni, SKY), graze))


@njit(cache=True, fastmath=True)
def strand_lobe(tangent, n, tilt, h):
    """Squared sine between half vector and a strand whose tangent is tilted towards the normal (Kajiya-Kay)."""
    t = add_scaled(tangent, n, tilt)
    t_h = dot(t, h)
    return max(1e-4, 1 - t_h * t_h / dot(t, t))


@njit(cache=True, fastmath=True)
def shade_hair(uni, tangent, along, rnd, depth, hair, grey, n, v, h, lit):
    """along: 0 root .. 1 tip; rnd: tone of the lock; depth: 0 inside .. 1 outside; hair, grey: numbers of the hair."""
    if dot(n, v) < 0:
        n = scale(n, -1.0)
    key_dir = vec3(uni, KEY_DIR)
    key = vec3(uni, KEY_COL)
    rim_dir = vec3(uni, RIM_DIR)
    tangent = normalize(tangent)
    tone = saturate(rnd * 0.55 + hair * 0.35 + along * 0.25)
    albedo = scale(mix(vec3(uni, HAIR_ROOT), vec3(uni, HAIR_TIP), tone), 0.72 + 0.3 * rnd + 0.28 * hair)
    if grey < uni[GREY]:
        albedo = mix(albedo, (0.33, 0.32, 0.31), 0.85)
    occlusion = (0.42 + 0.58 * smoothstep(0.0, 0.30, along)) * (0.42 + 0.58 * depth)
    n_l = saturate((dot(n, key_dir) + 0.45) / 1.45)
    t_l = dot(tangent, key_dir)
    diffuse = n_l * (0.5 + 0.5 * math.sqrt(max(0.0, 1 - t_l * t_l))) * (0.88 * lit + 0.12) * 1.05
    shift = 0.16 * (hair - 0.5)
    sharp = strand_lobe(tangent, n, 0.10 + shift, h)
    sharp4 = sharp * sharp * sharp * sharp
    sharp16 = sharp4 * sharp4 * sharp4 * sharp4
    spec1 = sharp16 * sharp16 * sharp16 * sharp4 * sharp4 * sharp4  # power 60: white, from the surface
    broad = strand_lobe(tangent, n, -0.16 - shift, h)
    broad2 = broad * broad
    broad4 = broad2 * broad2
    spec2 = broad4 * broad4 * broad4 * broad2  # power 14: coloured, from inside
    light = add_scaled(scale(hemisphere(uni, n), 0.85), key, diffuse)
    light = add_scaled(light, vec3(uni, FILL_COL), 0.5 * saturate(dot(n, FILL_DIR)))
    spec = add_scaled(scale(albedo, spec2 * 0.5 * (0.4 + hair)), (0.05, 0.048, 0.045), spec1 * (0.4 + 1.2 * hair))
    col = scale(add_scaled(mul(albedo, light), mul(key, spec), n_l * lit), occlusion)
    graze = 1.0 - abs(dot(n, v))
    half_rim = add(rim_dir, v)
    t_r = dot(tangent, half_rim)
    around = max(0.0, 1 - t_r * t_r / dot(half_rim, half_rim))
    rim = saturate((dot(n, rim_dir) + 0.35) / 1.35) * graze * graze * occlusion * around * around * around
    return add_scaled(col, mul(vec3(uni, RIM_COL), add(scale(albedo, 1.2), (0.05, 0.05, 0.05))), rim)


@njit(cache=True, fastmath=True)
def shade_glasses(uni, n, v, h, lit):
    """Polished plastic or metal."""
    if dot(n, v) < 0:
        n = scale(n, -1.0)
    key = vec3(uni, KEY_COL)
    n_l = saturate(dot(n, vec3(uni, KEY_DIR)))
    light = add_scaled(hemisphere(uni, n), key, n_l * lit)
    col = mul(vec3(uni, FRAME_COL), light)
    graze = 1.0 - saturate(dot(n, v))
    col = add_scaled(col, vec3(uni, SKY), 0.05 + 0.4 * graze * graze * graze)
    return add_scaled(col, key, ggx(saturate(dot(n, h)), 0.18) * 0.05 * lit)
