"""Learns the matrices of training/data/expression.py from a rig corpus: no pictures are drawn.

    python -m training.data.learn_expression CORPUS --drawn DIR

CORPUS gives the weights that performances use; DIR, kept by `learn_faces --drawn`, how far off mediapipe's landmarks
are. Needs the head pack.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from safetensors.numpy import save_file

from training.data import expression, face
from training.data.clip import ClipError, Corpus
from training.data.learn_faces import Looks, together
from training.rig.expressions import EXPRESSIONS
from training.rig.landmarks import LandmarkModel
from training.rig.mesh import Camera
from training.rig.pack import HeadPack, HeadPackError, load_pack
from training.rig.person import Person

SIZE = 512
PEOPLE = 300  # rest shapes that the prior of shape is taken from
FLOOR_CM = 0.03  # of noise in every landmark, whatever the renders say


def main(
    corpus: Annotated[Path, tyro.conf.Positional],
    drawn: Path,
    clips: int = 300,
    out: Path = expression.ASSET,
) -> int:
    """Writes the matrices.

    Args:
        corpus: a corpus folder of training.rig.corpus.
        drawn: folder of what learn_faces drew.
        clips: only so many training clips of the corpus.
    """
    try:
        pack = load_pack()
        weights = [clip.truth().expression for clip in Corpus(corpus).split("train")[:clips]]
        seen = together(sorted(drawn.glob("*.npz")))
    except (HeadPackError, ClipError, ValueError) as error:
        print(f"learn_expression: {error}", file=sys.stderr)
        return 1
    known = solve(weights, seen, pack)
    temporary = out.with_name(f".{out.name}.tmp")
    save_file({name: np.ascontiguousarray(a, np.float32) for name, a in known.items()}, temporary)
    os.replace(temporary, out)
    print(f"{out}: from {len(weights)} clips and {len(seen.blink)} pictures")
    return 0


def solve(weights: list[np.ndarray], seen: Looks, pack: HeadPack) -> dict[str, np.ndarray]:
    """The tensors of expression.fit(). Source: the posterior mean of a linear model with normal priors."""
    basis = shown_by_weights(pack)  # [112, 60]
    frames = np.concatenate(weights)
    mean = frames.mean(axis=0)
    within = np.cov((frames - np.concatenate([np.broadcast_to(w.mean(0), w.shape) for w in weights])).T)
    between = np.cov(np.array([w.mean(0) for w in weights]).T)
    rest, shapes = rest_shapes(pack)
    noise, bias = landmark_noise(seen, rest)
    total = shapes + bias + basis @ between @ basis.T + FLOOR_CM**2 * np.eye(len(rest))
    spread = within + between
    return {
        "rest": rest,
        "shown": basis @ mean,
        "mean": mean,
        "to_rest": (shapes + bias) @ np.linalg.inv(total),
        "to_weights": spread @ basis.T @ np.linalg.inv(basis @ spread @ basis.T + noise),
    }


def _flat(points: np.ndarray) -> np.ndarray:
    """[..., 68, 2] -> [..., 112] of the landmarks that are used."""
    used = points[..., expression.USED, :2]
    return used.reshape(*used.shape[:-2], -1)


def _frontal(model: LandmarkModel, weights: np.ndarray, pack: HeadPack) -> np.ndarray:
    """[n, 60] -> [n, 68, 2] cm about the neck's pivot as seen at its depth, y up: what face.read gives for a mesh."""
    still = np.zeros((len(weights), 3), np.float32)
    pixels = model.project(weights, still, still, still[:, :2], still[:, 0], SIZE)
    here, beside = Camera.portrait(SIZE).project(np.stack([pack.neck_pivot, pack.neck_pivot + np.array([1.0, 0, 0])]))
    return (pixels - here) / (beside[0] - here[0]) * np.array([1, -1])


def shown_by_weights(pack: HeadPack) -> np.ndarray:
    """[112, 60] cm that each weight moves the landmarks of a person of average shape."""
    model = LandmarkModel(pack, Person.from_seed(0).model_copy(update={"shape": (0.0,)}))
    at = _frontal(
        model, np.concatenate([np.zeros((1, len(EXPRESSIONS))), np.eye(len(EXPRESSIONS))]).astype(np.float32), pack
    )
    return (_flat(at[1:]) - _flat(at[:1])).T


def rest_shapes(pack: HeadPack) -> tuple[np.ndarray, np.ndarray]:
    """Mean [112] and covariance [112, 112] of resting faces, each brought to the mean's size and place."""
    people = [LandmarkModel(pack, Person.from_seed(40_000 + k)) for k in range(PEOPLE)]
    faces = np.concatenate([_frontal(m, np.zeros((1, len(EXPRESSIONS)), np.float32), pack) for m in people])
    home = faces.mean(axis=0)
    for _ in range(3):
        faces = np.array([_fitted(f, home) for f in faces])
        home = faces.mean(axis=0)
    return _flat(home), np.cov(_flat(faces).T)


def _fitted(points: np.ndarray, home: np.ndarray) -> np.ndarray:
    """points [68, 2] scaled and shifted onto home."""
    a, b = points - points.mean(0), home - home.mean(0)
    return a * ((a * b).sum() / (a**2).sum()) + home.mean(0)


def landmark_noise(seen: Looks, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariances [112, 112] of the landmarks' errors: from picture to picture, and that stay with a person."""
    found = face.read(seen.mesh).upright[..., :2]
    true = (seen.frontal - seen.frontal.mean(1, keepdims=True)) / seen.pixels_per_cm[:, None, None] * np.array([1, -1])
    true = np.array([_fitted(t, f) for t, f in zip(true, found)])
    off = _flat(found - true)
    mine = np.array([off[seen.person == p].mean(0) for p in np.unique(seen.person)])
    loose = off - mine[np.searchsorted(np.unique(seen.person), seen.person)]
    floor = FLOOR_CM**2 * np.eye(len(rest))
    return _shrunk(loose) + floor, _shrunk(mine) + floor


def _shrunk(samples: np.ndarray) -> np.ndarray:
    """A covariance from few samples, pulled half-way to its diagonal."""
    full = np.cov(samples.T)
    return 0.5 * full + 0.5 * np.diag(np.diag(full))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
