"""Hair styles: how locks of each kind run over the head."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.rig.mesh import unit
from training.rig.traits import Hair

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Style:
    """Numbers of one head of hair; lengths in cm."""

    kind: str
    length: float
    count: int  # locks
    points: int  # per lock
    width: float  # half width of a lock
    volume: float  # height over the skull
    lift: float = 0.5  # how much a root stands up
    follow: float = 0.55  # how fast a lock turns into the flow
    gravity: float = 0.15
    clump: int = 18  # locks per clump
    clump_jitter: float = 0.10
    jitter: float = 0.05
    side_volume: float = 0.45
    side_length: float = 1.0
    wave: float = 0.0
    wave_frequency: float = 0.55
    part: float = 0.0
    sweep: float = 0.9
    hugs: bool = True  # stays on the skull
    hangs: bool = False  # falls to the shoulders
    knot: Array = field(default_factory=lambda: np.array([0, 7.5, -10.5]))
    knot_radius: float = 3.2


def style_of(hair: Hair) -> Style:
    """The style of a person's hair."""
    v, length, part = hair.volume, hair.length, hair.part
    sweep = -0.9 * float(np.sign(part))
    knot = np.array([0, hair.knot_height, -10.6 + 0.62 * max(0.0, hair.knot_height - 10)])
    styles = {
        "long": lambda: Style(
            "long", length, 7000, 14, 0.15, 1.25 * v, lift=0.25, follow=0.5, gravity=0.5, clump=22, clump_jitter=0.07,
            jitter=0.03, side_volume=0.9, wave=hair.wave, wave_frequency=0.075, part=part * 0.5, hugs=False, hangs=True,
        ),
        "bob": lambda: Style(
            "long", length, 7000, 12, 0.14, 1.5 * v, lift=0.3, follow=0.5, gravity=0.5, clump=22, clump_jitter=0.07,
            jitter=0.03, side_volume=0.95, wave=hair.wave, wave_frequency=0.09, part=part * 0.6, hugs=False, hangs=True,
        ),
        "bun": lambda: Style(
            "bun", 17.0, 6000, 10, 0.12, 0.45 * v, lift=0.1, follow=0.7, clump=20, clump_jitter=0.04, jitter=0.02,
            knot=knot, knot_radius=3.3,
        ),
        "curly": lambda: Style(
            "curly", length, 5600, 24, 0.115, 0.5 * v, lift=0.75, follow=0.35, clump=22, clump_jitter=0.18, jitter=0.06,
            wave=1.0 + hair.wave, wave_frequency=0.36, hugs=False,
        ),
        "short": lambda: Style(
            "short", length, 8500, 8, 0.105, 1.5 * v, lift=0.45, clump=18, clump_jitter=0.13, side_volume=0.3,
            side_length=0.4, part=part, sweep=sweep,
        ),
        "quiff": lambda: Style(
            "quiff", length, 8500, 9, 0.105, 2.2 * v, lift=0.75, follow=0.4, clump=16, clump_jitter=0.12,
            side_volume=0.22, side_length=0.22, part=part,
        ),
        "crop": lambda: Style(
            "crop", length, 9500, 5, 0.10, 0.5 * v, lift=0.45, clump=10, side_volume=0.35, side_length=0.45,
        ),
        "back": lambda: Style(
            "back", length, 8000, 9, 0.105, 1.1 * v, lift=0.35, clump=18, clump_jitter=0.09, side_volume=0.3,
            side_length=0.5,
        ),
    }  # fmt: skip
    return styles[hair.kind]()


def flow(style: Style, p: Array, n: Array) -> Array:
    """Unit direction in which hair at points p [m, 3] (skull normals n) wants to run."""
    x, y, z = p.T
    one = np.ones_like(x)
    if style.kind == "short":  # sides down, top swept to one side
        top = np.clip((y - 9.5) / 3, 0, 1)[:, None]
        side = np.stack([np.sign(x - style.part) * 0.75, -0.55 * one, np.where(z > 2, 0.15, -0.35)], 1)
        f = side * (1 - top) + np.array([style.sweep, 0.1, 0.55]) * top
    elif style.kind == "quiff":
        top = np.clip((y - 8.8) / 2.5, 0, 1)[:, None]
        side = np.stack([np.sign(x) * 0.5, -0.8 * one, np.where(z > 2, -0.1, -0.35)], 1)
        up_x = 0.35 * np.sign(style.part + 0.01) * one
        up = np.stack([up_x, np.where(z > 5, 0.9, 0.1), np.where(z > 5, -0.25, -1.0)], 1)
        f = side * (1 - top) + up * top
    elif style.kind == "back":
        f = np.stack([x * 0.05, np.where(y > 6, 0.05, -0.5), -one], 1)
    elif style.kind == "long":  # sideways from the parting, then down
        u = np.clip(np.abs(x) / 7.4, 0, 1)
        top = np.clip((y - 6.0) / 5.0, 0, 1)
        away = np.clip((1 - u**2) * 1.1 * np.clip((y - 2) / 6, 0, 1), 0, 1.1)
        low = np.clip(
            (3 - y) / 8, 0, 1
        )  # beside and below the jaw: close to the neck, then before or behind the shoulder
        inward = np.clip((np.abs(x) - 7.2) * 0.35, -0.2, 1.0) * low
        down = -0.25 - 0.75 * u - 0.6 * (1 - top)
        to_front = np.where(z > -2.0, np.clip((6.0 - z) * 0.2, -0.2, 0.55), np.clip((-9.0 - z) * 0.2, -0.6, 0.2)) * low
        backwards = np.where(z > 2, -0.85, -0.05) * (top + 0.25) * (1 - low)
        f = np.stack([np.sign(x - style.part) * away - np.sign(x) * inward, down, backwards + to_front], 1)
    elif style.kind == "bun":
        f = style.knot - p
    elif style.kind == "curly":
        f = n + np.array([0, -0.15, 0])
    else:  # crop: forward on top, down at the sides
        f = np.stack([x * 0.04, np.where(y > 9, 0.0, -0.8), np.where(y > 9, 0.9, 0.1)], 1)
    return unit(f)
