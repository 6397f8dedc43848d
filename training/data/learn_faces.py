"""Learns the calibration of training/data/face.py on rig renders, and tries it on people it has not seen.

    python -m training.data.learn_faces

Needs the head pack and the landmarks environment. Each person is drawn in random expressions, poses and lids over a
random background; about fifteen minutes on one core.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from rich.progress import track as progress
from safetensors.numpy import save_file

from training.data import face as reading
from training.data.landmarks import FaceLandmarker, LandmarkError, MediapipeLandmarker
from training.data.track import look_once
from training.rig.expressions import EMOTION_WEIGHTS, EXPRESSIONS, VISEME_WEIGHTS
from training.rig.mesh import rotation
from training.rig.pack import HeadPackError
from training.rig.person import Person
from training.rig.renderer import Renderer

NEIGHBOURS = 64  # mesh points that a landmark may draw on
RIDGE_CM2 = 0.04  # keeps a landmark near its nearest mesh point unless the renders insist
FIRST_TRAINING_PERSON, FIRST_OTHER_PERSON = 5000, 6000  # seeds


@dataclass(frozen=True)
class Looks:
    """What `n` renders show, and what mediapipe saw in them. Pixels and centimetres of the rig's camera."""

    mesh: np.ndarray  # [n, 478, 3] px
    landmarks: np.ndarray  # [n, 68, 2] px
    frontal: np.ndarray  # [n, 68, 2] px, the same face at pose zero
    pose: np.ndarray  # [n, 3]
    gaze: np.ndarray  # [n, 2]
    blink: np.ndarray  # [n]
    pivot: np.ndarray  # [n, 2] px
    pixels_per_cm: np.ndarray  # [n]
    person: np.ndarray  # [n] int


def main(
    people: int = 24,
    others: int = 8,
    looks: int = 40,
    size: int = 320,
    seed: int = 0,
    out: Path = reading.ASSET,
    drawn: Path | None = None,
) -> int:
    """Learns from `people` people, tries the result on `others` more, writes the calibration.

    Args:
        drawn: a folder that keeps what was drawn and seen, a file a person; who is there is not drawn again.
    """
    seeds = [FIRST_TRAINING_PERSON + k for k in range(people)] + [FIRST_OTHER_PERSON + k for k in range(others)]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = drawn or Path(scratch)
            draw_missing(seeds, folder, looks, size, seed)
            seen = together([folder / f"{number}.npz" for number in seeds])
    except (LandmarkError, HeadPackError) as error:
        print(error, file=sys.stderr)
        return 1
    train = seen.person < FIRST_OTHER_PERSON
    known = learn(_only(seen, train))
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    save_file({name: np.ascontiguousarray(a) for name, a in known.items()}, temporary)
    os.replace(temporary, out)
    for name, rows in (("learned from", train), ("others", ~train)):
        print(f"{name}: {tried(_only(seen, rows), size, known)}")
    return 0


def draw_missing(seeds: list[int], folder: Path, looks: int, size: int, seed: int) -> None:
    """Draws every person who has no file in `folder` yet."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [number for number in seeds if not (folder / f"{number}.npz").exists()]
    if not missing:
        return
    landmarker, renderer = MediapipeLandmarker(), Renderer(size)
    for number in progress(missing, description="drawing"):
        seen = draw(renderer, landmarker, number, looks, seed)
        temporary = folder / f".{number}.npz"
        np.savez(temporary, **vars(seen))
        os.replace(temporary, folder / f"{number}.npz")
    landmarker.close()


def together(files: list[Path]) -> Looks:
    parts = [dict(np.load(path)) for path in files]
    return Looks(**{name: np.concatenate([part[name] for part in parts]) for name in Looks.__dataclass_fields__})


def draw(renderer: Renderer, landmarker: FaceLandmarker, number: int, looks: int, seed: int) -> Looks:
    """Renders a person `looks` times and reads the mesh off each picture; pictures without a face are left out."""
    rows = []
    rng = np.random.default_rng([seed, number])
    renderer.set_person(Person.from_seed(number))
    for _ in range(looks):
        expression, pose, shift, gaze, blink = random_look(renderer, rng)
        picture = over(renderer.render(expression, pose, shift, gaze, blink), backdrop(renderer.size, rng))
        mesh = look_once(picture, landmarker)
        if mesh is not None:
            pivot, scale = neck(renderer, shift)
            rows.append((mesh, renderer.landmarks, renderer.landmarks_frontal, pose, gaze, blink, pivot, scale, number))
    return Looks(*(np.array(column) for column in zip(*rows)))


def random_look(renderer: Renderer, rng: np.random.Generator):
    """(expression, pose, shift, gaze, blink): moods, mouth shapes and a little of everything else."""
    expression = EMOTION_WEIGHTS[rng.integers(len(EMOTION_WEIGHTS))] * rng.uniform(0, 1)
    expression = expression + VISEME_WEIGHTS[rng.integers(len(VISEME_WEIGHTS))] * rng.uniform(0, 1.2)
    some = rng.random(len(EXPRESSIONS)) < 0.08
    some &= ~np.array([n.startswith(("eyeBlink", "eyeLook", "Pupil", "tongue")) for n in EXPRESSIONS])
    expression = (expression + some * rng.uniform(0, 0.5, len(EXPRESSIONS))).astype(np.float32)
    expression = renderer.fix_lips(expression[None], np.array([rng.random() < 0.2], np.float32))[0]
    pose = rng.uniform(-1, 1, 3) * reading.LEARNED_TURN
    blink = float(rng.uniform(0, 1)) if rng.random() < 0.3 else 0.0
    return expression, pose, rng.normal(0, 0.7, 3), rng.normal(0, 1, 2) * (0.22, 0.12), blink


def neck(renderer: Renderer, shift: np.ndarray) -> tuple[np.ndarray, float]:
    """Where the shifted neck's pivot is seen, and pixels a centimetre at its depth."""
    pivot = renderer.pack.neck_pivot + shift
    here, beside = renderer.project(np.stack([pivot, pivot + np.array([1.0, 0, 0])]))
    return here, float(beside[0] - here[0])


def backdrop(size: int, rng: np.random.Generator) -> np.ndarray:
    """[size, size, 3] uint8: blurred colours of no room in particular."""
    small = rng.uniform(20, 235, (6, 6, 3)).astype(np.float32)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def over(picture: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """RGBA straight over RGB -> RGB uint8."""
    alpha = picture[..., 3:].astype(np.float32) / 255
    return (picture[..., :3] * alpha + behind * (1 - alpha) + 0.5).astype(np.uint8)


def learn(seen: Looks) -> dict[str, np.ndarray]:
    """The tensors of face.calibration()."""
    solid = seen.mesh.astype(np.float64) * (1, -1, -1)
    template, rigid = learn_template(seen, solid[:, : reading.MESH_POINTS])
    pick, weight = learn_landmarks(seen)
    known = {
        "template": template.astype(np.float32),
        "rigid": rigid.astype(np.float32),
        "pick": pick.astype(np.int32),
        "weight": weight.astype(np.float32),
    }
    turn, scale, pivot = reading.align(solid[:, : reading.MESH_POINTS], template, rigid)
    raw = reading.pose_of(turn)
    known["pose_fix"] = np.linalg.lstsq(reading.pose_terms(raw), raw - seen.pose, rcond=None)[0].astype(np.float32)
    eyes = np.einsum("nij,nki->nkj", turn, solid - pivot[:, None]) / scale[:, None, None]
    known["gaze"] = learn_gaze(reading.iris_offset(eyes), seen).astype(np.float32)
    known["lids"] = learn_lids(reading.opening(eyes), seen).astype(np.float32)
    return known


def learn_template(seen: Looks, solid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean mesh turned back to pose zero [468, 3] cm about the neck's pivot, and how rigid each point is [468].

    mediapipe's depth has no zero: each face is moved in depth until it lies on the mean of the others.
    """
    turn = rotation(seen.pose)
    origin = np.concatenate([seen.pivot * (1, -1), np.zeros((len(solid), 1))], axis=1)
    flat = (solid - origin[:, None]) / seen.pixels_per_cm[:, None, None]  # still posed
    depth = np.full(len(flat), 11.0) - flat[:, :, 2].mean(1)  # the face's middle is about 11 cm before the neck's
    for _ in range(4):
        moved = flat + np.array([0, 0, 1.0]) * depth[:, None, None]
        still = np.einsum("nij,nki->nkj", turn, moved)
        template = np.median(still, axis=0)
        spread = ((still - template) ** 2).sum(-1).mean(0)
        rigid = 1 / (spread + np.median(spread))
        posed = np.einsum("nij,kj->nki", turn, template)
        depth += np.einsum("k,nk->n", rigid / rigid.sum(), posed[..., 2] - moved[..., 2])
    return template, rigid / rigid.max()


def learn_landmarks(seen: Looks) -> tuple[np.ndarray, np.ndarray]:
    """Mesh points [68, K] and weights [68, K], summing to 1, of each landmark: ridge about its nearest mesh point."""
    flat = seen.mesh[..., :2].astype(np.float64) / seen.pixels_per_cm[:, None, None]
    wanted = seen.landmarks.astype(np.float64) / seen.pixels_per_cm[:, None, None]
    pick, weight = [], []
    for j in range(wanted.shape[1]):
        apart = np.linalg.norm(flat[:, : reading.MESH_POINTS] - wanted[:, j : j + 1], axis=2).mean(0)
        near = np.argsort(apart)[:NEIGHBOURS]
        about = flat[:, near] - flat[:, near[:1]]
        rest = wanted[:, j] - flat[:, near[0]]
        a = about.transpose(0, 2, 1).reshape(-1, NEIGHBOURS)
        w = np.linalg.solve(a.T @ a + RIDGE_CM2 * len(a) * np.eye(NEIGHBOURS), a.T @ rest.reshape(-1))
        w[0] += 1 - w.sum()
        pick.append(near)
        weight.append(w)
    return np.array(pick), np.array(weight)


def learn_gaze(offset: np.ndarray, seen: Looks) -> np.ndarray:
    """[3, 2]: gaze = offset @ rows 0-1 + row 2, from eyes that are open."""
    open_eyes = seen.blink < 0.3
    a = np.concatenate([offset, np.ones((len(offset), 1))], axis=1)[open_eyes]
    return np.linalg.lstsq(a, seen.gaze[open_eyes], rcond=None)[0]


def learn_lids(gap: np.ndarray, seen: Looks) -> np.ndarray:
    """(share of a person's open gap that is left at blink 1, share at blink 0)."""
    share = np.empty(len(gap))
    for person in np.unique(seen.person):
        mine = seen.person == person
        share[mine] = gap[mine] / np.percentile(gap[mine], reading.OPEN_PERCENTILE)
    slope, at_zero = np.polyfit(seen.blink, share, 1)
    return np.array([at_zero + slope, at_zero])


def tried(seen: Looks, size: int, known: dict[str, np.ndarray]) -> str:
    """The figures of a calibration, on one line."""
    faces = reading.read(seen.mesh, known)
    off = np.linalg.norm(faces.landmarks - seen.landmarks, axis=2) * 256 / size
    parts = {"jaw": (0, 17), "brows": (17, 27), "nose": (27, 36), "eyes": (36, 48), "lips": (48, 68)}
    parts_px = ", ".join(f"{name} {off[:, a:b].mean():.2f}" for name, (a, b) in parts.items())
    turn = np.degrees(np.abs(faces.pose - seen.pose))
    between = np.linalg.norm(seen.frontal[:, 36] - seen.frontal[:, 45], axis=1)
    aperture = np.linalg.norm(seen.frontal[:, 62] - seen.frontal[:, 66], axis=1) / between
    blink = np.concatenate([reading.blink(faces.opening[seen.person == p], known) for p in np.unique(seen.person)])
    eyes = np.degrees(np.abs(faces.gaze - seen.gaze))[seen.blink < 0.3]
    return (
        f"{len(off)} pictures; landmarks {off.mean():.2f} px at 256 (95 % of pictures below "
        f"{np.percentile(off.mean(1), 95):.2f}; {parts_px}); pose {turn.mean(0).round(2)} deg, 95 % below "
        f"{np.percentile(turn, 95, axis=0).round(1)}; gaze {eyes.mean(0).round(1)} deg; blink off by "
        f"{np.abs(blink - seen.blink).mean():.2f}; aperture correlation {np.corrcoef(aperture, faces.aperture)[0, 1]:.3f}, "
        f"off by {np.abs(aperture - faces.aperture).mean():.4f}"
    )


def _only(seen: Looks, rows: np.ndarray) -> Looks:
    return Looks(**{name: getattr(seen, name)[rows] for name in Looks.__dataclass_fields__})


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
