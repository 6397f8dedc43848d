"""Training pictures of the shipped people, rendered from the rig with the truth that the decoder learns from.

`person_maps` draws a person's stills and measures what the decoder gets as fixed maps: surfaces, and the blend shapes
as displacement of the face. `FrameStore` holds frames: each an expression seen twice, frontal (for the painter) and
turned (for the turner), with the true place in the stills of what every cell shows.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from training.rig.expressions import EMOTION_WEIGHTS, INDEX, VISEME_WEIGHTS
from training.rig.expressions import expression as named
from training.rig.person import Person
from training.rig.raster import surface_rest
from training.rig.renderer import Renderer

SIZE, CELL = 512, 4
CELLS = SIZE // CELL
STILL_YAW = np.radians(22.0)
STILL_POSES = ((0.0, 0.0, 0.0), (-float(STILL_YAW), 0.0, 0.0), (float(STILL_YAW), 0.0, 0.0))
MAX_POSE = np.radians([25.0, 15.0, 15.0])
SEEN_CM = 0.5  # a surface point is visible in a still when the still's surface passes this near it
MOUTH_AND_EYES = (2, 3, 4, 5, 6)  # materials whose place no still tells
HAIR = 8

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


@dataclass(frozen=True)
class Conditions:
    """What frames are drawn from, as docs/formats.md: expression [n, 60] without blink and gaze lids, and so on."""

    expression: Array
    pose: Array
    shift: Array
    gaze: Array
    blink: Array

    def __len__(self) -> int:
        return len(self.expression)


def random_conditions(rng: np.random.Generator, n: int) -> Conditions:
    """Mouths on the way between two visemes, under emotions, with blinks, glances and turned heads."""
    first, second = (VISEME_WEIGHTS[rng.integers(len(VISEME_WEIGHTS), size=n)] for _ in range(2))
    way, strength = rng.beta(0.6, 0.6, (n, 1)), rng.uniform(0.25, 1.15, (n, 1))
    mood = EMOTION_WEIGHTS[rng.integers(len(EMOTION_WEIGHTS), size=n)]
    felt = np.where(rng.random((n, 1)) < 0.2, 0, rng.uniform(0.2, 1.0, (n, 1)))
    expression = (first * way + second * (1 - way)) * strength + mood * felt
    stray = rng.normal(0, 0.12, expression.shape) * (rng.random(expression.shape) < 0.1)
    stray[:, [INDEX["tongueOut"], INDEX["PupilDilate_L"], INDEX["PupilDilate_R"]]] = 0
    expression += np.abs(stray)
    brows = named({"browInnerUp": 1.0, "browOuterUp": 1.0})
    expression += brows * (rng.uniform(0, 0.35, (n, 1)) * (rng.random((n, 1)) < 0.3))
    shut = rng.random(n)
    blink = np.where(shut < 0.5, 0.0, np.where(shut < 0.7, 1.0, rng.random(n)))
    gaze = rng.normal(0, [0.16, 0.1], (n, 2)).clip([-0.4, -0.25], [0.4, 0.25])
    pose = rng.uniform(-1, 1, (n, 3)) * MAX_POSE
    calm = rng.random(n) < 0.4  # heads mostly stay near the front
    pose[calm] *= 0.4
    shift = rng.uniform(-0.5, 0.5, (n, 3))
    return Conditions(*(a.astype(np.float32) for a in (expression, pose, shift, gaze, blink)))


def clip_conditions(corpus: Path, person: str | None, rng: np.random.Generator, n: int) -> Conditions | None:
    """n frames drawn from the truth of a corpus' training clips (all voices where no clip is of the person)."""
    from safetensors.numpy import load_file

    clips = []
    for folder in sorted((corpus / "clips").iterdir()):
        about = json.loads((folder / "clip.json").read_text())
        if about["split"] == "train":
            clips.append((folder, about["person"]))
    clips = [c for c in clips if c[1] == person] or clips
    if not clips:
        return None
    names = ("expression", "pose", "shift", "gaze", "blink")
    picked: dict[str, list[Array]] = {name: [] for name in names}
    chosen = rng.choice(len(clips), size=min(len(clips), 60), replace=False)
    for index in chosen:
        truth = load_file(clips[index][0] / "truth.safetensors")
        frames = rng.choice(len(truth["blink"]), size=-(-n // len(chosen)))
        for name in names:
            picked[name].append(truth[name][frames])
    return Conditions(*(np.concatenate(picked[name])[:n].astype(np.float32) for name in names))


class FrameStore:
    """A person's rendered frames in memory-mapped arrays; `done` counts the frames that are complete.

    twin [n, h, w, 4] uint8: the frontal face box; twin_flow [n, 2, h / 4, w / 4]: where it looks, px, known where
    twin_known; turned [n, s, s, 4] uint8; turned_flow [n, K, 2, 128, 128] in 1 / 32 px from the cell's own middle,
    for each still, true where turned_seen [n, K, 128, 128].
    """

    def __init__(self, folder: Path, n: int, face_box: tuple[int, int, int, int], picture: int = SIZE // 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.n, self.face_box, self.picture = folder, n, face_box, picture
        w, h = face_box[2:]
        k = len(STILL_POSES)
        self.twin = self._open("twin", np.uint8, (n, h, w, 4))
        self.twin_flow = self._open("twin_flow", np.float16, (n, 2, h // CELL, w // CELL))
        self.twin_known = self._open("twin_known", np.uint8, (n, h // CELL, w // CELL))
        self.turned = self._open("turned", np.uint8, (n, picture, picture, 4))
        self.turned_flow = self._open("turned_flow", np.int16, (n, k, 2, CELLS, CELLS))
        self.turned_seen = self._open("turned_seen", np.uint8, (n, k, CELLS, CELLS))
        self.conditions_file = folder / "conditions.npz"

    def _open(self, name: str, dtype: type, shape: tuple[int, ...]) -> np.memmap:
        path = self.folder / f"{name}.npy"
        if path.exists():
            array = np.lib.format.open_memmap(path, mode="r+")
            if array.shape == shape and array.dtype == dtype:
                return array
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)

    @property
    def done(self) -> int:
        mark = self.folder / "done"
        return int(mark.read_text()) if mark.exists() else 0

    def mark(self, done: int) -> None:
        """Notes that the first `done` frames are complete."""
        part = self.folder / "done.part"
        part.write_text(str(done))
        os.replace(part, self.folder / "done")

    def begin(self, conditions: Conditions) -> Conditions:
        """Keeps the conditions of the first call; a resumed run draws the rest of the same frames."""
        if self.conditions_file.exists():
            with np.load(self.conditions_file) as kept:
                return Conditions(**{name: kept[name] for name in kept.files})
        with open(self.conditions_file.with_suffix(".tmp"), "wb") as out:
            np.savez(out, **vars(conditions))
        os.replace(self.conditions_file.with_suffix(".tmp"), self.conditions_file)
        return conditions

    def render(self, rig: Rig, surfaces: Array, conditions: Conditions, i: int) -> None:
        """Draws frame i twice and traces both back to the stills (surfaces [K, 4, 128, 128])."""
        surface = [np.ascontiguousarray(s[:3].transpose(1, 2, 0)) for s in surfaces]
        c, nothing = conditions, np.zeros(3, np.float32)
        x, y, w, h = self.face_box
        twin = rig.draw(c.expression[i], nothing, nothing, c.gaze[i], float(c.blink[i]))
        self.twin[i] = twin[y : y + h, x : x + w]
        at, seen = self._source(rig, rig.trace(CELLS), surface[0], STILL_POSES[0], moved=False)
        cut = np.s_[y // CELL : (y + h) // CELL, x // CELL : (x + w) // CELL]
        self.twin_flow[i] = (at - _middles())[cut].transpose(2, 0, 1)
        self.twin_known[i] = seen[cut]

        turned = rig.draw(c.expression[i], c.pose[i], c.shift[i], c.gaze[i], float(c.blink[i]))
        self.turned[i] = _shrink(turned, self.picture)
        trace = rig.trace(CELLS)
        for k, pose in enumerate(STILL_POSES):
            at, seen = self._source(rig, trace, surface[k], pose, moved=k == 0)
            self.turned_flow[i, k] = np.round((at - _middles()) * 32).clip(-32767, 32767).transpose(2, 0, 1)
            self.turned_seen[i, k] = seen

    def _source(
        self, rig: Rig, trace: Trace, surface: Array, pose: tuple[float, ...], moved: bool
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Where a still of that pose shows what the cells see, [n, n, 2] px, and whether it is visible there.

        moved: the still wears the frame's expression (the repainted frontal one), else it is neutral.
        """
        points = trace.moved if moved else trace.rest
        at, _ = project(place(points, trace.weight, np.array(pose), np.zeros(3), rig.pivot), rig.view_projection)
        at = np.where(trace.material[..., None] >= 0, at, _middles()).astype(np.float32)
        near = np.linalg.norm(lookup(surface, at) - trace.rest, axis=-1)
        reach = SEEN_CM + (np.linalg.norm(trace.moved - trace.rest, axis=-1) * 1.2 if moved else 0)
        seen = (near < reach) & (trace.material >= 0)
        if not moved:
            seen &= ~np.isin(trace.material, MOUTH_AND_EYES)
        return at, seen


def _middles() -> Array:
    x = (np.arange(CELLS, dtype=np.float32) + 0.5) * CELL - 0.5
    return np.stack(np.meshgrid(x, x), -1)


def _shrink(rgba: Pictures, size: int) -> Pictures:
    """Area average of premultiplied colour, straight again."""
    if size == rgba.shape[0]:
        return rgba
    colour = cv2.resize(premultiplied(rgba), (size, size), interpolation=cv2.INTER_AREA)
    colour[..., :3] /= np.maximum(colour[..., 3:], 1e-6)
    return (colour * 255 + 0.5).clip(0, 255).astype(np.uint8)


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
