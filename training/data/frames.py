"""Training pictures of the shipped people, rendered from the rig with the truth that the decoder learns from.

`FrameStore` holds frames: each an expression seen twice, frontal (for the painter) and turned (for the turner), with
the true place in the stills of what every cell shows.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from training.data.person_maps import (
    CELL,
    CELLS,
    SIZE,
    STILL_POSES,
    Array,
    Pictures,
    Rig,
    Trace,
    lookup,
    place,
    premultiplied,
    project,
)
from training.rig.expressions import EMOTION_WEIGHTS, INDEX, VISEME_WEIGHTS
from training.rig.expressions import expression as named

MAX_POSE = np.radians([25.0, 15.0, 15.0])
SEEN_CM = 0.5  # a surface point is visible in a still when the still's surface passes this near it
MOUTH_AND_EYES = (2, 3, 4, 5, 6)  # materials whose place no still tells


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


def clip_conditions(
    corpus: Path, person: str | None, rng: np.random.Generator, n: int, split: str = "train"
) -> Conditions | None:
    """n frames from the truth of a corpus' clips of a split (of all people where no clip is of the person)."""
    clips = []
    for folder in sorted((corpus / "clips").iterdir()):
        about = json.loads((folder / "clip.json").read_text())
        if about["split"] == split:
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

    def __init__(self, folder: Path, n: int, face_box: tuple[int, int, int, int], picture: int = SIZE) -> None:
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
