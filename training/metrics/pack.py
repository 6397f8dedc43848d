"""A pack against the truth of a corpus: the engine renders each clip from its sound and motion, the rig draws the truth.

The engine runs as its own process (`python -m engine render`), as a user runs it: what is measured is what is shipped,
graphs, look-ahead and all. Lips and landmarks of the drawn face come from the expression weights that the pack's decoder
hands out beside its picture, put through the face model (`LandmarkModel`); pictures are compared as pictures, over mid grey,
with the rig's own drawing of the truth. A clip whose person the pack does not know is played by the people of the pack in
turn, and the rig draws its truth (weights, pose, shift, gaze, blink) with the same person, if the cast has one of that name.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from training.data.clip import Clip, Truth
from training.metrics.image import landmark_distance, over_grey, psnr, ssim
from training.metrics.lips import Spoken, lip_table
from training.rig.drawing import SUPERSAMPLE, person_of
from training.rig.expressions import GAZE_TO_LIDS, INDEX
from training.rig.landmarks import LandmarkModel
from training.rig.pack import HeadPack
from training.rig.person import SHIPPED_CAST, Person
from training.rig.renderer import Renderer

CURVES = ("emotion", "pose", "shift", "gaze", "blink")


class MeasureError(RuntimeError):
    """A pack or clip that cannot be measured; the message says what to do."""


@dataclass(frozen=True)
class Drawn:
    """What the engine made of one clip: weights `[n, 60]` without eyes' motion, and the folder of its pictures."""

    expression: NDArray[np.float32]
    pictures: list[Path]


@dataclass(frozen=True)
class Likeness:
    """Figures of one clip's pictures and landmarks, means over the frames that were compared."""

    psnr_db: float
    ssim: float
    mouth_lmd: float
    face_lmd: float
    frames: int


def people_of(pack: Path) -> dict[str, str]:
    """Names of the pack's people by their lower-case form."""
    try:
        manifest = json.loads((pack / "manifest.json").read_text())
        return {str(name).lower(): str(name) for name in manifest["people"]}
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise MeasureError(
            f"{pack}: expected an avatar pack with people in its manifest.json, found: {error}"
        ) from error


def played_by(clip: Clip, number: int, people: dict[str, str]) -> tuple[str, Person | None]:
    """Who of the pack plays a clip, and that person as the rig draws it: the clip's own, else the cast's, else None."""
    own = people.get(clip.info.person.lower())
    if own:
        return own, person_of(clip)
    name = list(people.values())[number % len(people)]
    return name, next((person for person in SHIPPED_CAST if person.name.lower() == name.lower()), None)


def draw(pack: Path, clip: Clip, person: str, folder: Path, backend: str = "auto") -> Drawn:
    """Renders the clip's sound with its true emotion, pose, shift, gaze and blink. Raises MeasureError with the reason."""
    truth = clip.truth()
    curves = folder / f"{clip.info.id}.safetensors"
    frames = folder / clip.info.id
    save_file({name: np.ascontiguousarray(getattr(truth, name), np.float32) for name in CURVES}, curves)
    command = [
        *(sys.executable, "-m", "engine", "render", str(clip.folder / "audio.flac"), str(folder / "film.mp4")),
        *("--avatar", str(pack), "--person", person, "--curves", str(curves), "--frames", str(frames)),
        *("--backend", backend),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise MeasureError(f"clip {clip.info.id}: the engine failed with {done.returncode}: {last[0]}")
    path = frames / "expression.safetensors"
    if not path.is_file():
        raise MeasureError(f"{pack}: its frame decoder hands out no expression weights, so lips cannot be measured")
    weights = load_file(path)["expression"]
    if len(weights) != clip.info.frames:
        raise MeasureError(f"clip {clip.info.id}: expected {clip.info.frames} frames, the engine drew {len(weights)}")
    return Drawn(without_eyes(weights, truth), sorted(frames.glob("*.png")))


def without_eyes(weights: NDArray[np.float32], truth: Truth) -> NDArray[np.float32]:
    """Takes blink and gaze's lids off again, the reverse of `with_eyes`; where lids are shut, wide and squint stay 0."""
    out = np.array(weights, np.float32)
    left_open = 1.0 - truth.blink
    seen = left_open > 0.02
    for side in ("_L", "_R"):
        lid = INDEX["eyeBlink" + side]
        out[:, lid] = np.where(seen, (out[:, lid] - truth.blink) / np.maximum(left_open, 0.02), 0.0)
        for name in ("eyeWide", "eyeSquint"):
            column = INDEX[name + side]
            out[:, column] = np.where(seen, out[:, column] / np.maximum(left_open, 0.02), 0.0)
        out[:, INDEX["eyeLookUp" + side]] -= GAZE_TO_LIDS * np.maximum(truth.gaze[:, 1], 0)
        out[:, INDEX["eyeLookDown" + side]] -= GAZE_TO_LIDS * np.maximum(-truth.gaze[:, 1], 0)
    return out


def spoken(clip: Clip, drawn: Drawn, face: LandmarkModel) -> Spoken:
    return Spoken(face.aperture(drawn.expression), clip.truth().aperture, clip.info.phones)


def likeness(clip: Clip, drawn: Drawn, person: Person, renderer: Renderer, head: HeadPack, every: int) -> Likeness:
    """Compares each `every`-th picture with the rig's drawing of the truth, and all landmarks with the true ones."""
    truth, size = clip.truth(), renderer.size
    face = LandmarkModel(head, person)
    moves = (truth.pose, truth.shift, truth.gaze, truth.blink, size)
    ours, true = face.project(drawn.expression, *moves), face.project(truth.expression, *moves)
    if getattr(renderer, "person", None) != person:
        renderer.set_person(person)
    noise, alike = [], []
    for k in range(0, clip.info.frames, every):
        picture = renderer.render(
            truth.expression[k], truth.pose[k], truth.shift[k], truth.gaze[k], float(truth.blink[k])
        )
        a, b = over_grey(_read(drawn.pictures[k], size)), over_grey(picture)
        noise.append(psnr(a, b))
        alike.append(ssim(a, b))
    return Likeness(
        psnr_db=float(np.mean(noise)),
        ssim=float(np.mean(alike)),
        mouth_lmd=landmark_distance(ours, true, size, mouth=True),
        face_lmd=landmark_distance(ours, true, size),
        frames=len(noise),
    )


def _read(path: Path, size: int) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.shape != (size, size, 4):
        found = "nothing" if picture is None else str(picture.shape)
        raise MeasureError(f"{path}: expected a picture of {size} x {size} with alpha, found {found}")
    return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA)


def measure(
    pack: Path, clips: Sequence[Clip], head: HeadPack, picture_clips: int, every: int, backend: str
) -> Iterator[tuple[Clip, Spoken, Likeness | None]]:
    """Goes through the clips; pictures of the first `picture_clips` that the rig can draw are compared too."""
    people = people_of(pack)
    size = int(json.loads((pack / "manifest.json").read_text())["video"]["size"])
    renderer: Renderer | None = None
    compared = 0
    for number, clip in enumerate(clips):
        name, person = played_by(clip, number, people)
        with tempfile.TemporaryDirectory() as folder:
            drawn = draw(pack, clip, name, Path(folder), backend)
            found = None
            if person and compared < picture_clips:
                renderer = renderer or Renderer(size, SUPERSAMPLE, head)
                found = likeness(clip, drawn, person, renderer, head, every)
                compared += 1
        yield clip, spoken(clip, drawn, LandmarkModel(head, person_of(clip))), found


def table(results: Sequence[tuple[Clip, Spoken, Likeness | None]]) -> dict[str, float]:
    """All figures by name; picture figures are missing where the rig knows nobody of the pack."""
    figures = lip_table([heard for _, heard, _ in results])
    pictures = [found for _, _, found in results if found]
    if pictures:
        for name in ("psnr_db", "ssim", "mouth_lmd", "face_lmd"):
            figures[name] = float(
                np.average([getattr(p, name) for p in pictures], weights=[p.frames for p in pictures])
            )
        figures["pictures"] = sum(p.frames for p in pictures)
    return figures
