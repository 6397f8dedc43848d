"""Spectacles: two rims, a bridge and temples, fitted to the eyes, nose and ears of a person."""

import numpy as np
from numpy.typing import NDArray

from training.rig.loft import tube
from training.rig.pack import HeadPack
from training.rig.part import Part, columns, float32
from training.rig.person import Person
from training.rig.raster import GLASSES

Array = NDArray[np.float32]
RIMS = {"round": (2.15, 2.05, 2.0), "oval": (2.45, 1.75, 2.3), "square": (2.5, 1.75, 3.4)}  # half width, height, power


def make_glasses(pack: HeadPack, person: Person, base: Array) -> Part | None:
    """The glasses of a person, or None."""
    if person.glasses is None:
        return None
    mark = base[pack.landmarks]
    half_width, half_height, power = RIMS[person.glasses.shape]
    radius = person.glasses.thickness
    bridge = mark[27]
    left, right = mark[42:48].mean(0), mark[36:42].mean(0)
    front = float(max(bridge[2] + 0.45, left[2] + 1.5))
    pieces = []
    for eye, sign in ((left, 1.0), (right, -1.0)):
        centre_x = sign * max(abs(float(eye[0])), half_width + 0.75)
        centre = np.array([centre_x, (float(eye[1]) + float(bridge[1])) / 2 - 0.35, front])
        rim = _rim(centre, half_width, half_height, power, bridge)
        pieces.append(tube(np.vstack([rim, rim[:2]]), radius, flat=0.8))
        hinge = np.array([sign * (abs(centre_x) + half_width + 0.05), centre[1] + 0.75, 0])
        hinge[2] = _wrap(hinge[0], front)
        pieces.append(tube(_temple(pack, base, hinge, sign), np.linspace(radius * 1.1, radius * 0.75, 24)))
        inner = sign * (abs(centre_x) - half_width)
        if sign > 0:
            x = np.linspace(-inner, inner, 9)
            arch = centre[1] + 0.55 + 0.25 * (1 - (x / inner) ** 2)
            pieces.append(tube(np.stack([x, arch, [_wrap(v, front) + 0.05 for v in x]], 1), radius * 0.95))
    return Part.join([_part(*piece) for piece in pieces])


def _part(points: Array, normals: Array, triangles: NDArray[np.int32]) -> Part:
    n = len(points)
    return Part(GLASSES, *float32(points, normals), columns(count=n), *float32(np.ones(n)), triangles)


def _wrap(x: float, front: float) -> float:
    """The frame bends back towards the temples."""
    return front - 0.028 * x * x


def _rim(centre: Array, half_width: float, half_height: float, power: float, bridge: Array) -> Array:
    angle = np.linspace(0, 2 * np.pi, 56, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    x = centre[0] + half_width * np.sign(cos) * np.abs(cos) ** (2 / power)
    y = centre[1] + half_height * np.sign(sin) * np.abs(sin) ** (2 / power)
    outer = np.clip((np.abs(x) - abs(centre[0])) / half_width, 0, 1)
    y = y + 0.15 * outer * np.clip(sin, 0, 1)
    z = np.array([_wrap(v, float(centre[2])) for v in x]) - 0.10 * np.clip(-sin, 0, 1)
    return np.stack([x, y, z], 1)


def _temple(pack: HeadPack, base: Array, hinge: Array, sign: float) -> Array:
    """From the hinge back over the ear, staying outside of the head."""
    t = np.linspace(0, 1, 24)
    end = np.array([sign * 7.9, hinge[1] - 0.1, -0.5])
    curve = hinge + (end - hinge) * t[:, None]
    skin = base[pack.outer_skin]
    for i, (_, y, z) in enumerate(curve):
        near = (np.abs(skin[:, 1] - y) < 0.6) & (np.abs(skin[:, 2] - z) < 0.6) & (skin[:, 0] * sign > 4)
        if near.any() and z > 3.5:
            out = float((skin[near, 0] * sign).max()) + 0.16
            curve[i, 0] = sign * max(out, abs(curve[i, 0]) if i < 3 else 0)
    curve[3:, 0] = np.convolve(np.pad(curve[:, 0], 3, mode="edge"), np.ones(7) / 7, "valid")[3:]
    return curve
