"""A track cut into stretches that can become clips, and the reasons why others cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.data import face
from training.data.crop import LEAST_FACE_PX
from training.data.track import Track

LONGEST_GAP = 4  # pictures without a face that are bridged between two with one
SECOND_FACE = 0.55  # another face at least this wide, over the first, makes it two people ...
SECOND_SHARE = 0.1  # ... when it is there in more than this share of the looks around
FAR_TURN = np.radians(60)
LARGEST_JUMP = 0.5  # of the face's width, between two pictures: another face, not a moved one


@dataclass(frozen=True)
class Stretch:
    """Pictures `first` .. `last` (inclusive) of a track: one scene, one face, mesh in every picture."""

    first: int
    last: int
    times: np.ndarray  # [n] s
    mesh: np.ndarray  # [n, 478, 3]


def stretches(track: Track, least_s: float) -> tuple[list[Stretch], list[str]]:
    """The usable stretches of a track, and why the rest is not: a reason per scene that gave none."""
    if not len(track.times):
        return [], ["no picture can be decoded"]
    starts = np.flatnonzero(track.new_scene | (np.arange(len(track.times)) == 0))
    good, reasons = [], []
    for first, end in zip(starts, [*starts[1:], len(track.times)]):
        found, reason = _in_scene(track, int(first), int(end), least_s)
        good += found
        if not found:
            reasons.append(reason)
    return good, reasons


def _in_scene(track: Track, first: int, end: int, least_s: float) -> tuple[list[Stretch], str]:
    n = end - first
    found = track.found()[first:end]
    lasts = track.times[end - 1] - track.times[first]
    if found.sum() < max(2, 0.1 * n):
        return [], f"no face in {n - found.sum()} of {n} pictures"
    looks = track.second[first:end]
    looks = looks[np.isfinite(looks)]
    if len(looks) and (looks > SECOND_FACE).mean() > SECOND_SHARE:
        return [], f"two faces in {(looks > SECOND_FACE).mean():.0%} of the pictures"
    if lasts < least_s:
        return [], f"too short: {lasts:.1f} s in one piece, at least {least_s:g} s are needed"
    out, reason = [], ""
    for a, b in _runs(track.mesh[first:end], found):
        times = track.times[first + a : first + b]
        if times[-1] - times[0] < least_s:
            reason = reason or f"the face is lost every few pictures (found in {found.mean():.0%})"
            continue
        mesh = _bridge(track.mesh[first + a : first + b])
        problem = _problem(mesh)
        if problem:
            reason = reason or problem
        else:
            out.append(Stretch(first + a, first + b - 1, times, mesh))
    return out, reason or "no face for long enough"


def _runs(mesh: np.ndarray, found: np.ndarray) -> list[tuple[int, int]]:
    """[first, end) of runs with a face whose gaps are short and whose face does not jump."""
    seen = np.flatnonzero(found)
    if not len(seen):
        return []
    centre = mesh[seen, :, :2].mean(1)
    wide = np.ptp(mesh[seen, :, 0], axis=1)
    gap = np.diff(seen)
    jump = np.linalg.norm(np.diff(centre, axis=0), axis=1) > LARGEST_JUMP * wide[1:] * gap
    breaks = np.flatnonzero((gap > LONGEST_GAP + 1) | jump) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(seen, breaks)]


def _bridge(mesh: np.ndarray) -> np.ndarray:
    """Fills pictures without a face from their neighbours."""
    missing = ~np.isfinite(mesh[:, 0, 0])
    if not missing.any():
        return mesh
    rows, known = np.arange(len(mesh)), np.flatnonzero(~missing)
    before = known[np.clip(np.searchsorted(known, rows, side="right") - 1, 0, None)]
    after = known[np.clip(np.searchsorted(known, rows), None, len(known) - 1)]
    share = np.where(after > before, (rows - before) / np.maximum(after - before, 1), 0.0)[:, None, None]
    return (mesh[before] * (1 - share) + mesh[after] * share).astype(np.float32)


def _problem(mesh: np.ndarray) -> str:
    """Why a face that is there all the time is still of no use, or an empty string."""
    faces = face.read(mesh)
    tall = np.linalg.norm(faces.landmarks[:, 8] - faces.landmarks[:, 27], axis=1)
    if np.median(tall) < LEAST_FACE_PX:
        return (
            f"the face is too small: {np.median(tall):.0f} px from chin to brows, at least {LEAST_FACE_PX} are needed"
        )
    turned = (np.abs(faces.pose[:, :2]) > FAR_TURN).any(1).mean()
    if turned > 0.2:
        return f"the face is turned away by more than 60 degrees in {turned:.0%} of the pictures"
    return ""
