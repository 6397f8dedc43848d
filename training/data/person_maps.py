"""What the rig tells of a person once and for all: the stills, their surfaces, and the blend shapes as displacement
maps of the face. `person_maps` makes the fixed tensors that the decoder gets with a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from training.rig.expressions import EMOTION_WEIGHTS, INDEX, VISEME_WEIGHTS
from training.rig.person import Person
from training.rig.raster import HAIR, surface_rest
from training.rig.renderer import Renderer

SIZE, CELL = 512, 4
CELLS = SIZE // CELL
STILL_YAW = float(np.radians(22.0))
STILL_POSES = ((0.0, 0.0, 0.0), (-STILL_YAW, 0.0, 0.0), (STILL_YAW, 0.0, 0.0))

Array = NDArray[np.float32]
Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Trace:
    """What each cell's middle sees: rest and moved (expression, not pose) points [n, n, 3] cm, head weight [n, n],
    material [n, n] (-1: nothing)."""

    rest: Array
    moved: Array
    weight: Array
    material: NDArray[np.int32]


class Rig(Protocol):
    """One person before the camera, as this file needs it."""

    view_projection: Array
    pivot: Array

    def draw(self, expression: Array, pose: Array, shift: Array, gaze: Array, blink: float) -> Pictures: ...

    def trace(self, cells: int) -> Trace: ...

    def pupils(self) -> Array:
        """[2, 3] px: x, y of each pupil in the frontal still, the picture's left one first, and its way per radian."""
        ...

    def displacement(self, cells: int) -> Array:
        """[60, n, n, 3] cm: how each expression moves what each cell of the last picture shows."""
        ...


def rotation(pose: Array) -> Array:
    """Ry(yaw) Rx(pitch) Rz(roll), [3, 3]."""
    (cy, cx, cz), (sy, sx, sz) = np.cos(pose), np.sin(pose)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return (about_y @ about_x @ about_z).astype(np.float32)


def place(points: Array, weight: Array, pose: Array, shift: Array, pivot: Array) -> Array:
    """Moves points [..., 3] with the head bone by weight [...]."""
    turned = (points - pivot) @ rotation(pose).T + pivot + shift
    return points + weight[..., None] * (turned - points)


def project(points: Array, view_projection: Array) -> tuple[Array, Array]:
    """[..., 3] cm -> pixels [..., 2] with centres at integers, and distance from the camera."""
    clip = points @ view_projection[:, :3].T + view_projection[:, 3]
    depth = clip[..., 3]
    x = (clip[..., 0] / depth * 0.5 + 0.5) * SIZE - 0.5
    y = (0.5 - clip[..., 1] / depth * 0.5) * SIZE - 0.5
    return np.stack([x, y], -1), depth


def lookup(image: Array, at: Array) -> Array:
    """Bilinear map [n, n, C] over the still at pixels [..., 2]."""
    where = ((at + 0.5) / (SIZE / image.shape[0]) - 0.5).astype(np.float32)
    return cv2.remap(image, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def continued_surface(trace: Trace, pose: Array, view_projection: Array, pivot: Array) -> Array:
    """Surface map [4, n, n] (rest x, y, z in cm, head weight) of a still, smooth where hair makes depth ragged and
    continued past the silhouette, so that a search over it never falls off."""
    n = len(trace.rest)
    depth = project(place(trace.rest, trace.weight, pose, np.zeros(3, np.float32), pivot), view_projection)[1]
    known = trace.material >= 0
    nearest = tuple(distance_transform_edt(~known, return_distances=False, return_indices=True))
    depth, weight = depth[nearest], trace.weight[nearest]
    ragged = gaussian_filter(((trace.material == HAIR)[nearest] | ~known).astype(np.float32), 1.0)
    depth = depth + ragged * (gaussian_filter(depth, 2.0) - depth)
    weight = weight + ragged * (gaussian_filter(weight, 1.5) - weight)
    seen = _on_ray(gaussian_filter(depth, 0.5), view_projection)
    turn = rotation(pose)
    bend = np.eye(3) + weight[..., None, None] * (turn - np.eye(3))
    held = seen - weight[..., None] * (pivot - turn @ pivot)
    rest = np.linalg.solve(bend, held[..., None])[..., 0]
    return np.concatenate([rest, weight.reshape(n, n, 1)], -1).transpose(2, 0, 1).astype(np.float32)


def _on_ray(depth: Array, view_projection: Array) -> Array:
    """World points [n, n, 3] at the given camera distances behind the cells' middles."""
    n = len(depth)
    x = (np.arange(n) + 0.5) / n * 2 - 1
    u, v = np.meshgrid(x, -x)
    inverse = np.linalg.inv(view_projection.astype(np.float64))
    ends = []
    for z in (0.0, 0.9):
        q = np.stack([u, v, np.full_like(u, z), np.ones_like(u)], -1) @ inverse.T
        ends.append(q[..., :3] / q[..., 3:])
    near, far = (project(p, view_projection)[1] for p in ends)
    return ends[0] + (ends[1] - ends[0]) * ((depth - near) / (far - near))[..., None]


def premultiplied(rgba: Pictures) -> Array:
    """[..., 4] uint8 straight -> float32 0..1 premultiplied."""
    out = rgba.astype(np.float32) / 255
    out[..., :3] *= out[..., 3:]
    return out


def person_maps(rig: Rig, face_box: tuple[int, int, int, int], rank: int) -> tuple[Pictures, dict[str, Array]]:
    """Stills [K, 512, 512, 4] straight RGBA and the person's fixed tensors (`composer.PERSON_MAPS`)."""
    nothing, still = np.zeros(len(INDEX), np.float32), np.zeros(3, np.float32)
    pictures, surfaces, displacement = [], [], np.zeros(0, np.float32)
    for k, pose in enumerate(np.array(STILL_POSES, np.float32)):
        pictures.append(rig.draw(nothing, pose, still, np.zeros(2, np.float32), 0.0))
        trace = rig.trace(CELLS)
        surfaces.append(continued_surface(trace, pose, rig.view_projection, rig.pivot))
        if k == 0:
            displacement = rig.displacement(CELLS)
            known = trace.material >= 0
    stills = np.stack(pictures)
    colour = premultiplied(stills)
    half = np.stack([cv2.resize(c, (CELLS // 2,) * 2, interpolation=cv2.INTER_AREA) for c in colour])
    solid = np.stack([cv2.resize(c[..., 3], (CELLS,) * 2, interpolation=cv2.INTER_AREA) for c in colour])
    x, y, w, h = (v // CELL for v in face_box)
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    displacement = displacement[:, nearest[0], nearest[1]][:, y : y + h, x : x + w]
    mix, motion = low_rank(displacement.transpose(0, 3, 1, 2).reshape(len(INDEX), -1), rank)
    surface = np.stack(surfaces)
    tone = np.log(np.clip(cheek := _skin_tone(colour[0], face_box), 0.03, 0.97) / (1 - np.clip(cheek, 0.03, 0.97)))
    maps = {
        "surface": surface,
        "looks": half.transpose(0, 3, 1, 2),
        "solid_stills": solid[:, None],
        "normals": _normals(surface[0])[None],
        "motion": motion,
        "motion_mix": mix,
        "tone": tone.reshape(1, 3, 1, 1),
        "pupils": rig.pupils()[None],
    }
    return stills, {name: np.ascontiguousarray(m, np.float32) for name, m in maps.items()}


def _skin_tone(colour: Array, face_box: tuple[int, int, int, int]) -> Array:
    x, y, w, h = face_box
    return np.median(colour[y + h // 2 : y + 3 * h // 4, x + w // 4 : x + 3 * w // 4, :3].reshape(-1, 3), 0)


def _normals(surface: Array) -> Array:
    """Unit normals [3, n / 2, n / 2] of a surface map."""
    p = gaussian_filter(surface[:3], (0, 1.5, 1.5))
    normal = np.cross(np.gradient(p, axis=2), -np.gradient(p, axis=1), axis=0)
    normal /= np.linalg.norm(normal, axis=0) + 1e-6
    return (normal[:, ::2, ::2] + normal[:, 1::2, ::2] + normal[:, ::2, 1::2] + normal[:, 1::2, 1::2]) / 4


def low_rank(basis: Array, rank: int) -> tuple[Array, Array]:
    """basis [60, n] -> mix [60, r], motion [r, n] with mix @ motion near basis, nearest where faces move much."""
    sample = np.abs(np.concatenate([VISEME_WEIGHTS, EMOTION_WEIGHTS]))
    use = np.maximum(sample.max(0), 0.25)
    use[[INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]] = 1.0
    u, s, v = np.linalg.svd(basis * use[:, None], full_matrices=False)
    return (u[:, :rank] * s[:rank]) / use[:, None], v[:rank]


class PersonRig(Renderer):
    """The rig's renderer with one person, which also tells what each cell of a coarse grid shows."""

    def __init__(self, person: Person, supersample: int = 2) -> None:
        super().__init__(SIZE, supersample)
        self.set_person(person)
        self.view_projection = self.camera.view_proj
        self.pivot = np.asarray(self.pack.neck_pivot, np.float32)
        self._moved = self._rest.copy()
        self._weights = np.concatenate([self._head_weight, *(part.head_weight for _, part in self._parts)])

    def draw(self, expression: Array, pose: Array, shift: Array, gaze: Array, blink: float) -> Pictures:
        picture = self.render(expression, pose, shift, gaze, blink)
        self._moved[: len(self._unposed)] = self._unposed
        return picture

    def trace(self, cells: int) -> Trace:
        self._look(cells)
        weight = self._spread(np.repeat(self._weights[:, None], 3, 1))[..., 0]
        material = np.where(self._cell_id < 0, -1, self._materials[self._cell_id])
        return Trace(self._spread(self._rest), self._spread(self._moved), weight, material.astype(np.int32))

    def pupils(self) -> Array:
        out = []
        for ids, centre in zip(self.pack.eyes, self.face.eye_centres):
            radius = np.ptp(self.face.base[ids][:, 0]) / 2
            ahead, _ = project(centre + np.array([0, 0, radius]), self.view_projection)
            aside, _ = project(centre + radius * np.array([np.sin(0.2), 0, np.cos(0.2)]), self.view_projection)
            out.append([*ahead, (aside[0] - ahead[0]) / np.sin(0.2)])
        return np.array(sorted(out), np.float32)

    def displacement(self, cells: int) -> Array:
        self._look(cells)
        out = np.zeros((len(INDEX), cells, cells, 3), np.float32)
        corners = np.zeros_like(self._rest)
        for shape, deltas in zip(out, self.pack.expression_basis):
            corners[: len(self.pack.corner_vertex)] = deltas[self.pack.corner_vertex]
            shape[:] = self._spread(corners)
        return out

    def _look(self, cells: int) -> None:
        """Which triangle each cell's middle sees in the last picture."""
        self._cell_screen = self._screen.copy()
        self._cell_screen[:, :2] *= cells / (self.size * self.supersample)
        self._cell_id = np.empty((cells, cells), np.int32)
        self._draw_visibility(self._cell_screen, np.empty((cells, cells), np.float32), self._cell_id)
        row = self.camera.view_proj[3]
        self._distance = self._world @ row[:3] + row[3]

    def _spread(self, corners: Array) -> Array:
        """Interpolates a value [n, 3] of the mesh's corners to the cells; 0 where nothing is seen."""
        out = np.empty((*self._cell_id.shape, 3), np.float32)
        surface_rest(self._cell_id, self._triangles, self._cell_screen, 1.0, self._distance, corners, out)
        return np.nan_to_num(out, copy=False)
