"""Paints skin, lips, brows, beard and scalp in uv space from 3-D positions; nothing comes from photographs.

The texture of a person is [2, 1024, 1024, 11] uint8, face tile then back of the head, channels: colour as
sRGB ** 1.1 (so that squaring it gives linear light), gloss, resting tilt xyz, wrinkle region, moving tilt xyz.
Tilts are added to the normal, in the axes of the resting head, 128 is none.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from training.rig.brush import (
    blob,
    both_sides,
    brow_strokes,
    freckles,
    lid_lines,
    lip_outline,
    over,
    polygon_mask,
    smooth_noise,
    smoothstep,
    stubble,
)
from training.rig.pack import HeadPack
from training.rig.person import Person
from training.rig.relief import Relief, face_relief, tilt_of_height

Array = NDArray[np.float32]

REGION = 7  # channel of the wrinkle region
# Hairline: lowest height with hair as a function of the azimuth around the head
HAIRLINE_AZIMUTH = np.radians([0, 15, 30, 42, 52, 60, 66, 72, 80, 92, 104, 118, 135, 155, 180])
HAIRLINE_Y = np.array([10.6, 10.6, 10.2, 9.0, 7.0, 4.6, 2.6, 1.4, 3.6, 4.6, 2.2, -1.0, -3.2, -4.2, -4.6])
# Upper edge of the beard: height as a function of |x|
BEARD_X = [0, 1.2, 2.0, 2.7, 3.6, 4.8, 5.8, 6.6, 7.4]
BEARD_Y = [-1.75, -1.8, -2.15, -2.9, -3.35, -3.0, -1.4, 1.0, 3.2]


def hairline(pos: Array, lift: float = 0.0, recede: float = 0.0) -> Array:
    """Roughly the signed distance (cm) of points [..., 3] to the hairline: > 0 inside the hair."""
    azimuth = np.arctan2(np.abs(pos[..., 0]), pos[..., 2] - 0.5)
    height = np.interp(azimuth, HAIRLINE_AZIMUTH, HAIRLINE_Y)
    height = height + lift * np.clip(np.cos(azimuth) * 1.5, 0, 1)
    return pos[..., 1] - height - recede * np.exp(-(((azimuth - np.radians(33)) / np.radians(16)) ** 2))


def ears(pos: Array) -> NDArray[np.bool_]:
    """Where the ears are: no hair grows there."""
    x, y, z = np.abs(pos[..., 0]), pos[..., 1], pos[..., 2]
    return (x > 7.75) & (y < 5.4) & (y > -3.5) & (z < 4.2) & (z > -2.6)


def paint_skin(pack: HeadPack, person: Person) -> NDArray[np.uint8]:
    """The texture of a person, [2, 1024, 1024, 11] uint8."""
    rng = np.random.default_rng([person.seed, 5])
    colour, gloss, relief = _paint_face(pack, person, rng)
    back_colour, back_gloss, back_fine = _paint_back(pack, person, rng)
    none = np.zeros((*gloss.shape, 3), np.float32)
    back_tilt = tilt_of_height(pack.back_position, back_fine * 0.0014)
    nowhere = np.zeros_like(gloss)
    return np.stack(
        [
            _encode(colour, gloss, relief.resting, relief.region, relief.moving),
            _encode(back_colour, back_gloss, back_tilt, nowhere, none),
        ]
    )


def halved(texture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The texture at half size; wrinkle regions are numbers and must not be averaged."""
    small = np.stack([cv2.resize(tile, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for tile in texture])
    small[..., REGION] = texture[:, ::2, ::2, REGION]
    return small


def _encode(colour: Array, gloss: Array, tilt: Array, region: Array, moving: Array) -> NDArray[np.uint8]:
    def signed(a: Array) -> Array:
        return np.clip(a, -1, 1) * 127 + 128

    layers = (np.clip(colour, 0, 1) ** 1.1 * 255, np.clip(gloss, 0, 1) * 255, signed(tilt), region, signed(moving))
    return (np.dstack(layers) + 0.5).astype(np.uint8)


def _skin_base(rng: np.random.Generator, colour: Array, size: int) -> tuple[Array, Array]:
    """Flat skin with blotches, mottling and pores; also returns the fine noise."""
    blotches = smooth_noise(rng, ((3, 1), (6, 0.7), (12, 0.5), (24, 0.35)), size)
    mottling = smooth_noise(rng, ((32, 0.7), (64, 0.6), (120, 0.4)), size)
    white = rng.standard_normal((size, size)).astype(np.float32)
    fine = cv2.GaussianBlur(white, (0, 0), 1.2) * 2
    medium = cv2.GaussianBlur(white, (0, 0), 4) * 6
    out = (
        np.ones((size, size, 3), np.float32)
        * colour
        * (1 + 0.018 * blotches + 0.018 * fine + 0.014 * medium)[..., None]
    )
    warmth = np.array([0.010, -0.020, -0.022], np.float32) * mottling[..., None]  # blood comes and goes
    return out * (1 + warmth), fine


def _flush(rng: np.random.Generator, pos: Array, size: int) -> Array:
    """Where blood shows: cheeks, ears, nose, chin."""
    red = 0.72 * both_sides(pos, (5.0, -0.6, 8.6), (1.9, 1.5, 3))
    red += 0.55 * both_sides(pos, (8.4, 1.5, 1.5), (1.2, 2.6, 2.2))
    red += 0.35 * both_sides(pos, (1.3, 0.2, 11.3), (0.7, 0.7, 1.2))
    red += 0.55 * blob(pos, (0, 0.2, 12.6), (1.2, 1.2, 1.6))
    red += 0.30 * blob(pos, (0, -6.6, 11), (1.8, 1.2, 3))
    red += 0.18 * both_sides(pos, (3.2, 2.3, 9.6), (1.5, 0.5, 2))
    red *= 1 + 0.3 * smooth_noise(rng, ((8, 0.6), (20, 0.5), (60, 0.4)), size)
    return np.clip(red, 0, 1.2)


def _sockets(pos: Array, bags: float) -> Array:
    out = 0.6 * bags * both_sides(pos, (2.9, 1.95, 9.3), (1.6, 0.5, 2))
    out += 0.40 * both_sides(pos, (3.1, 4.4, 9.6), (1.8, 0.55, 2))
    out += 0.45 * both_sides(pos, (1.6, 3.2, 9.2), (0.6, 0.8, 2))
    return np.clip(out, 0, 1)


def beard_mask(rng: np.random.Generator, pos: Array, lips: Array, outline: Array, shape: str) -> Array:
    """Where a beard of that shape grows, 0..1."""
    size = pos.shape[0]
    x = np.abs(pos[..., 0])
    top = np.interp(x.ravel(), BEARD_X, BEARD_Y).reshape(x.shape).astype(np.float32)
    top = top + 0.16 * smooth_noise(rng, ((10, 1), (40, 0.8)), size)
    mask = smoothstep(0.6, -0.9, pos[..., 1] - top)
    mask *= smoothstep(-9.6, -7.6, pos[..., 1]) * smoothstep(1.4, 3.4, pos[..., 2])
    mask *= (
        1 - 0.6 * blob(pos, (0, -4.45, 11.6), (1.9, 0.35, 2)) - 0.4 * both_sides(pos, (3.1, -4.2, 10.3), (0.7, 0.8, 2))
    )
    if shape == "moustache":
        mask *= smoothstep(-3.9, -3.3, pos[..., 1]) * smoothstep(3.6, 2.8, x)
    elif shape == "goatee":
        mask *= smoothstep(3.9, 2.7, x)
    around_lips = cv2.GaussianBlur(polygon_mask(outline, 0, size), (0, 0), 5)
    mask = np.clip(mask, 0, 1) * (1 - np.clip(lips * 1.5 + around_lips * 0.25, 0, 1))
    return mask * smoothstep(1.5, 3.5, pos[..., 2])


def _scalp(rng: np.random.Generator, pos: Array, person: Person) -> Array:
    ragged = 0.25 * smooth_noise(rng, ((24, 1), (64, 0.8)), pos.shape[0])
    return smoothstep(-0.9, 1.3, hairline(pos, person.hair.hairline, person.hair.recede) + ragged)


def _scalp_strength(person: Person) -> float:
    return 0.30 if person.hair.kind == "bald" else 0.85


def _paint_face(pack: HeadPack, person: Person, rng: np.random.Generator) -> tuple[Array, Array, Relief]:
    pos = pack.face_position
    size = pos.shape[0]
    trait = person.skin
    skin = np.array(trait.colour, np.float32) / 255
    colour, fine = _skin_base(rng, skin, size)
    flush = _flush(rng, pos, size) * trait.blush
    tint = np.array([1.03, 0.86, 0.84] if skin.mean() > 0.45 else [1.04, 0.93, 0.90], np.float32)
    colour *= 1 + (tint - 1) * flush[..., None]
    colour *= 1 + np.array([0.02, 0.02, -0.01], np.float32) * blob(pos, (0, 8.5, 11), (5, 2.2, 4))[..., None]
    colour *= 1 + np.array([-0.10, -0.19, -0.15], np.float32) * _sockets(pos, trait.bags)[..., None]

    outline = lip_outline(pack.landmark_uv)
    lips = polygon_mask(outline, 1.8, size)
    beard = beard_mask(rng, pos, lips, outline, person.beard.shape)
    colour = _paint_beard(rng, colour, beard, person, skin)
    colour = _paint_lips(rng, colour, lips, pos, person)
    relief = face_relief(rng, pack, person, lips, fine)
    colour *= 1 - relief.crease[..., None] * np.array([0.16, 0.24, 0.26], np.float32)
    colour = _paint_eyes_and_nose(colour, pack, person, skin)
    scalp = _scalp(rng, pos, person) * smoothstep(-5.0, -3.0, pos[..., 1])
    scalp *= 1 - cv2.GaussianBlur(ears(pos).astype(np.float32), (0, 0), 3)
    hair = np.array(person.hair.colour, np.float32) / 255
    colour = over(colour, hair * 0.5 * (1 + 0.3 * fine[..., None]), _scalp_strength(person) * scalp)
    brows = brow_strokes(rng, pack.landmark_uv, person.brows, size)
    brow_colour = hair * 0.62 + np.array([0.42, 0.41, 0.40], np.float32) * person.hair.grey * 0.6
    brow_alpha = np.clip(brows * 1.05 + cv2.GaussianBlur(brows, (0, 0), 5) * 0.4, 0, 1) * person.brows.opacity
    colour = over(colour, brow_colour, brow_alpha)
    if trait.freckles > 0:
        colour *= 1 - np.array([0.12, 0.28, 0.36], np.float32) * freckles(rng, pos, trait.freckles)[..., None]
    return colour, _gloss(pos, lips, scalp, brows, beard, fine, person), relief


def _gloss(pos: Array, lips: Array, scalp: Array, brows: Array, beard: Array, fine: Array, person: Person) -> Array:
    """Lips, nose and forehead shine; hair paint is matte."""
    gloss = 0.40 + 0.55 * np.clip(lips, 0, 1) * person.skin.lip_gloss
    gloss = gloss + 0.18 * blob(pos, (0, 0.8, 12.3), (1.3, 2.6, 2)) + 0.12 * blob(pos, (0, 8, 11), (3.5, 2, 4))
    gloss = gloss - 0.10 * both_sides(pos, (5.2, -1.5, 8.4), (2.0, 2.4, 3))
    gloss = (
        gloss * (1 - 0.8 * scalp * (person.hair.kind != "bald")) * (1 - 0.6 * np.clip(brows, 0, 1)) * (1 + 0.14 * fine)
    )
    return gloss * (1 - 0.65 * beard * min(1, person.beard.amount * 2))


def _paint_beard(rng: np.random.Generator, colour: Array, beard: Array, person: Person, skin: Array) -> Array:
    amount = person.beard.amount
    if amount <= 0:
        if person.sex == "male":  # shaved
            return over(colour, np.array([0.36, 0.36, 0.37], np.float32) * skin.mean(), beard * 0.11)
        return colour
    hair = np.array(person.beard.colour, np.float32) / 255
    strokes = stubble(rng, beard, amount)
    dark, light = hair * 0.55 + skin * 0.05, hair * 1.05 + skin * 0.08
    soft = beard * 0.42 * min(1, amount * 1.5) + beard * max(0, amount - 0.5) * 0.8
    colour = over(colour, dark * 0.9 + skin * 0.1, np.clip(soft, 0, 0.9))
    tone = smooth_noise(rng, ((200, 1.0), (90, 0.6)), beard.shape[0])[..., None] * 0.25 + 0.45
    return over(
        colour, dark + (light - dark) * np.clip(tone, 0, 1), np.clip(strokes * min(1, amount * 1.4 + 0.2), 0, 0.9)
    )


def _paint_lips(rng: np.random.Generator, colour: Array, lips: Array, pos: Array, person: Person) -> Array:
    lip = np.array(person.skin.lips, np.float32) / 255
    streaks = cv2.GaussianBlur(rng.standard_normal(lips.shape).astype(np.float32), (0, 0), sigmaX=0.9, sigmaY=3) * 3
    paint = lip * (1 + 0.05 * streaks[..., None])
    paint = paint * (1 - 0.13 * smoothstep(-0.1, 0.25, pos[..., 1] + 3.35)[..., None])
    return over(colour, paint, np.clip(lips, 0, 1) * person.skin.lip_strength)


def _paint_eyes_and_nose(colour: Array, pack: HeadPack, person: Person, skin: Array) -> Array:
    pos = pack.face_position
    feminine = person.femininity
    lid = np.clip(lid_lines(pack.landmark_uv, pos.shape[0]) * (1.1 + 0.6 * feminine), 0, 1) * (0.34 + 0.2 * feminine)
    colour = over(colour, np.array([0.20, 0.11, 0.09], np.float32) * (0.4 + skin.mean()), lid)
    if person.skin.eye_shadow is not None:
        *shadow, strength = person.skin.eye_shadow
        alpha = both_sides(pos, (3.2, 4.25, 9.8), (1.45, 0.42, 2)) * strength
        colour = over(colour, np.array(shadow, np.float32) / 255, alpha)
    nostrils = both_sides(pos, (0.62, -0.55, 11.25), (0.36, 0.30, 0.62))
    return over(colour, skin * 0.28 * np.array([1.15, 0.8, 0.75], np.float32), np.clip(1.25 * nostrils, 0, 1) * 0.75)


def _paint_back(pack: HeadPack, person: Person, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    pos = pack.back_position
    colour, fine = _skin_base(rng, np.array(person.skin.colour, np.float32) / 255, pos.shape[0])
    scalp = _scalp(rng, pos, person)
    hair = np.array(person.hair.colour, np.float32) / 255
    colour = over(colour, hair * 0.5 * (1 + 0.3 * fine[..., None]), _scalp_strength(person) * scalp)
    return colour, np.clip(0.4 * (1 - 0.8 * scalp * (person.hair.kind != "bald")), 0, 1), fine
