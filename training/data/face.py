"""From mediapipe's mesh to what a clip holds: 68 landmarks, head pose, gaze, lids and lips, by a fixed calibration.

Mesh and landmarks are two sets of points on one face, and differ in places (jaw line, brows): every one of the 68 is a
fixed weighted mean of mesh points, with weights that sum to 1, so that shifting, scaling or turning the picture does
the same to the result. Weights, the rigid template that pose is read from, and the scales of gaze and lids were learned
on rig renders (training/data/learn_faces.py) and tried on other people.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

ASSET = Path(__file__).with_name("assets") / "face_from_mesh.safetensors"
MESH_POINTS = 468  # of the face; mediapipe adds five for each iris
IRISES = (468, 473)  # their centres, of the subject's right and left eye
# mediapipe's numbers of the eye corners (outer, inner) and of lid pairs (upper, lower), right eye then left
EYE_CORNERS = ((33, 133), (263, 362))
LID_PAIRS = (((159, 145), (158, 153), (160, 144)), ((386, 374), (385, 380), (387, 373)))
INNER_LIPS, OUTER_EYES, MOUTH_CORNERS = (62, 66), (36, 45), (60, 64)  # of the 68
LEARNED_TURN = np.array([0.6, 0.35, 0.3])  # yaw, pitch, roll of the renders that taught the calibration, radians
OPEN_PERCENTILE = 80  # of a clip's lid openings: what open eyes look like on this person


@dataclass(frozen=True)
class Faces:
    """`n` pictures of one face. Pixels are those of the picture the mesh was taken from."""

    landmarks: np.ndarray  # [n, 68, 2] float32, pixels
    pose: np.ndarray  # [n, 3] float32: yaw, pitch, roll, radians
    pivot: np.ndarray  # [n, 2] where the neck's pivot lies, pixels
    pixels_per_cm: np.ndarray  # [n] of a head of average size, at the pivot's depth
    gaze: np.ndarray  # [n, 2] yaw, pitch, radians
    opening: np.ndarray  # [n] lid opening over the eye's width
    aperture: np.ndarray  # [n] inner lips' gap over the outer eye corners' distance, as at pose zero
    width: np.ndarray  # [n] mouth width over the same distance
    upright: np.ndarray  # [n, 68, 3] float32 the landmarks turned back to pose zero, cm about the neck's pivot, y up


@cache
def calibration() -> dict[str, np.ndarray]:
    """template [468, 3] cm about the neck's pivot, rigid [468], pick and weight [68, K], pose_fix [10, 3], gaze [3, 2],
    lids [2]."""
    return load_file(ASSET)


def read(mesh: np.ndarray, known: dict[str, np.ndarray] | None = None) -> Faces:
    """mesh [n, 478, 3] pixels (x right, y down, z away) -> Faces. Rows must hold a face."""
    known = known or calibration()
    solid = mesh.astype(np.float64) * (1, -1, -1)  # into head space: y up, z towards the camera
    turn, scale, pivot = align(solid[:, :MESH_POINTS], known["template"], known["rigid"])
    points = to_68(solid, known)
    upright = np.einsum("nij,nki->nkj", turn, points - pivot[:, None]) / scale[:, None, None]
    eyes = np.einsum("nij,nki->nkj", turn, solid - pivot[:, None]) / scale[:, None, None]
    raw = pose_of(turn)
    pose = raw - pose_terms(raw) @ known["pose_fix"]
    between = np.linalg.norm(upright[:, OUTER_EYES[0]] - upright[:, OUTER_EYES[1]], axis=1)
    lips = np.maximum(upright[:, INNER_LIPS[0], 1] - upright[:, INNER_LIPS[1], 1], 0)
    mouth = np.linalg.norm(upright[:, MOUTH_CORNERS[0]] - upright[:, MOUTH_CORNERS[1]], axis=1)
    return Faces(
        landmarks=(points[..., :2] * (1, -1)).astype(np.float32),
        pose=pose.astype(np.float32),
        pivot=pivot[:, :2] * (1, -1),
        pixels_per_cm=scale,
        gaze=(iris_offset(eyes) @ known["gaze"][:2] + known["gaze"][2]).astype(np.float32),
        opening=opening(eyes),
        aperture=(lips / between).astype(np.float32),
        width=(mouth / between).astype(np.float32),
        upright=upright.astype(np.float32),
    )


def to_68(solid: np.ndarray, known: dict[str, np.ndarray]) -> np.ndarray:
    """[n, 478, 3] -> [n, 68, 3]: each a weighted mean of its own mesh points."""
    return np.einsum("njkd,jk->njd", solid[:, known["pick"]], known["weight"].astype(np.float64))


def align(solid: np.ndarray, template: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn [n, 3, 3], scale [n] and place of the template's origin [n, 3] that lay the template on each face.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991, eq. 40-42.
    """
    w = weight / weight.sum()
    centre, home = np.einsum("k,nkd->nd", w, solid), w @ template
    about, model = solid - centre[:, None], template - home
    u, s, vt = np.linalg.svd(np.einsum("k,nki,kj->nij", w, about, model))
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    turn = np.einsum("nij,nj,njk->nik", u, sign, vt)
    scale = (s * sign).sum(1) / (w @ (model**2).sum(1))
    return turn, scale, centre - scale[:, None] * (turn @ home)


def pose_of(turn: np.ndarray) -> np.ndarray:
    """[n, 3, 3] = Ry(yaw) Rx(pitch) Rz(roll) -> [n, 3] radians."""
    pitch = np.arcsin(np.clip(-turn[:, 1, 2], -1, 1))
    return np.stack([np.arctan2(turn[:, 0, 2], turn[:, 2, 2]), pitch, np.arctan2(turn[:, 1, 0], turn[:, 1, 1])], 1)


def pose_terms(pose: np.ndarray) -> np.ndarray:
    """[n, 3] -> [n, 10], what mediapipe's errors of pose depend on; held at the edge of what was learned."""
    p = np.clip(pose, -LEARNED_TURN, LEARNED_TURN)
    crossed = p[:, [0, 0, 1]] * p[:, [1, 2, 2]]
    return np.concatenate([p, p**2, crossed, np.ones((len(p), 1))], axis=1)


def iris_offset(eyes: np.ndarray) -> np.ndarray:
    """Turned-back mesh [n, 478, 3] -> [n, 2]: the irises from the middles of their eye corners, over the eye's width."""
    sides = []
    for iris, (outer, inner) in zip(IRISES, EYE_CORNERS):
        middle = (eyes[:, outer] + eyes[:, inner]) / 2
        wide = np.linalg.norm(eyes[:, outer] - eyes[:, inner], axis=1, keepdims=True)
        sides.append((eyes[:, iris, :2] - middle[:, :2]) / wide)
    return (sides[0] + sides[1]) / 2


def opening(eyes: np.ndarray) -> np.ndarray:
    """Turned-back mesh [n, 478, 3] -> [n] mean gap of the lids over the eye's width."""
    sides = []
    for pairs, (outer, inner) in zip(LID_PAIRS, EYE_CORNERS):
        wide = np.linalg.norm(eyes[:, outer] - eyes[:, inner], axis=1)
        sides.append(np.mean([eyes[:, up, 1] - eyes[:, low, 1] for up, low in pairs], axis=0) / wide)
    return np.mean(sides, axis=0)


def blink(lids: np.ndarray, known: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """Lid openings [n] of one clip -> blink [n] 0 open .. 1 shut, against what open looks like in that clip."""
    shut_share, half_open = (known or calibration())["lids"]
    full = np.percentile(lids, OPEN_PERCENTILE)
    share = (lids / max(full, 1e-6) - shut_share) / (half_open - shut_share)
    return np.clip(1 - share, 0, 1).astype(np.float32)
