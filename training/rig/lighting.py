"""The light of the picture and the colours of a person, as the uniform vector of the shading kernels."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.rig import light
from training.rig.mesh import unit
from training.rig.person import Person


def linear(srgb: ArrayLike) -> NDArray[np.float64]:
    """sRGB 0..255 to linear light."""
    return (np.clip(np.asarray(srgb, float), 0, 255) / 255.0) ** 2.2


def uniforms(person: Person, lanes: int) -> NDArray[np.float64]:
    """[N_UNIFORMS]: soft key light from the person's side of the room, cool fill, thin rim."""
    out = np.zeros(light.N_UNIFORMS)
    hair = np.array(person.hair.colour, float)
    for index, value in (
        (light.KEY_DIR, unit(np.array(person.light_from))),
        (light.KEY_COL, (0.86, 0.815, 0.77)),
        (light.FILL_COL, (0.20, 0.22, 0.25)),
        (light.SKY, (0.37, 0.395, 0.435)),
        (light.GROUND, (0.225, 0.18, 0.16)),
        (light.RIM_DIR, unit(np.array((-0.75, 0.35, -0.6)))),
        (light.RIM_COL, (0.9, 0.87, 0.84)),
        (light.IRIS, linear(person.iris)),
        (light.HAIR_ROOT, linear(hair * 0.75)),
        (light.HAIR_TIP, linear(0.85 * hair * 1.15 + 0.15 * hair.mean() * 1.15 + 6)),
        (light.CLOTH_COL, linear(person.clothes.colour)),
        (light.CLOTH_TRIM, linear(person.clothes.trim)),
        (light.FRAME_COL, linear(person.glasses.colour if person.glasses else (0, 0, 0))),
        (light.LASH_COL, (0.030, 0.022, 0.019)),
    ):
        out[index : index + 3] = value
    out[light.PUPIL] = 0.38
    out[light.KNIT] = person.clothes.knit
    out[light.GREY] = person.hair.grey
    out[light.LANES] = lanes
    return out
