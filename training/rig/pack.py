"""The head pack: shape, expressions and render mesh of the face model, read from one `.npz`.

Centimetres, y up, z towards the camera, x to the subject's left. `python -m training.rig.convert` writes a pack
from the official ICT-FaceKit repository.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.rig.expressions import EXPRESSIONS

PACK_VARIABLE = "MOUTHPIECE_HEAD_PACK"
POSITION_MAP_SIZE = 1024
OUTER_SKIN_VERTICES = 11248  # of the original model: face, back of the head, neck and bust come first
FACE, BACK, MOUTH, TEETH, EYE_LEFT, EYE_RIGHT, LASH = range(7)  # triangle materials of the pack

Array = NDArray[np.float32]
Indices = NDArray[np.int32]


class HeadPackError(Exception):
    """The head pack is missing or is not one; the message says how to get one."""


@dataclass(frozen=True, eq=False)
class HeadPack:
    """Arrays of the face model. N vertices, M render corners (vertex x uv seam), F triangles."""

    mean: Array  # [N, 3] neutral mean head, cm
    identity_basis: Array  # [100, N, 3]: head = mean + sum c_k basis_k, c ~ N(0, 1)
    expression_basis: Array  # [60, N, 3]: deltas for weight 1, order of EXPRESSIONS
    landmarks: Indices  # [68] vertex ids, iBUG order
    neck_weight: Array  # [N] 0 shoulders .. 1 follows the head
    neck_pivot: Array  # [3]
    ambient_occlusion: Array  # [N] 0..1
    outer_skin: NDArray[np.bool_]  # [N] face, back of the head, neck, bust
    eyes: tuple[Indices, Indices]  # vertex ids of the left and right eyeball
    corner_vertex: Indices  # [M]
    corner_uv: Array  # [M, 2] in the tile of the corner's material
    corner_material: NDArray[np.uint8]  # [M]
    corner_eye_direction: Array  # [M, 3] unit direction in the eye's frame, +z the pupil
    triangles: Indices  # [F, 3] corner ids, sorted by material, anticlockwise outside
    triangle_material: Indices  # [F]
    triangle_vertex: Indices  # [F, 3] vertex ids
    landmark_uv: Array  # [68, 2] in the face tile
    face_position: Array  # [1024, 1024, 3] mean xyz per texel of the face tile, row 0 = v 0
    back_position: Array  # [1024, 1024, 3] the same of the back of the head


def pack_path(path: Path | None = None) -> Path:
    """Where the pack should lie: the argument, else MOUTHPIECE_HEAD_PACK, else the user's data folder."""
    if path is not None:
        return Path(path)
    if os.environ.get(PACK_VARIABLE):
        return Path(os.environ[PACK_VARIABLE])
    data_home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data_home) / "mouthpiece" / "head_pack.npz"


def load_pack(path: Path | None = None) -> HeadPack:
    """Reads the head pack (cached per file). Raises HeadPackError with the remedy."""
    where = pack_path(path)
    if not where.is_file():
        raise HeadPackError(
            f"no head pack at {where}: get github.com/ICT-VGL/ICT-FaceKit, run "
            f"`python -m training.rig.convert ICT-FaceKit head_pack.npz`, then set {PACK_VARIABLE} or pass --head-pack"
        )
    return _read(where.resolve())


@lru_cache(maxsize=2)
def _read(where: Path) -> HeadPack:
    try:
        with np.load(where, allow_pickle=False) as archive:
            data = {name: archive[name] for name in PACK_ARRAYS}
    except KeyError as error:
        raise HeadPackError(
            f"{where} is no head pack: {error.args[0]}; write it anew with training.rig.convert"
        ) from None
    except (OSError, ValueError) as error:
        raise HeadPackError(f"{where} cannot be read as a head pack ({error}); write it anew") from None
    names = tuple(str(name) for name in data["expression_names"])
    if names != EXPRESSIONS:
        raise HeadPackError(f"{where}: its {len(names)} expressions are not the {len(EXPRESSIONS)} expected here")
    return _arrange(data)


PACK_ARRAYS = [
    "vertices",
    "identity_basis",
    "expression_basis",
    "expression_names",
    "landmarks68",
    "neck_weight",
    "neck_pivot",
    "ao",
    "source_vertex",
    "corner_vertex",
    "corner_uv",
    "corner_material",
    "corner_eye_dir",
    "triangles",
    "triangle_material",
    "eye_vertex_left",
    "eye_vertex_right",
    "posmap_face",
    "posmap_back",
]


def _arrange(data: dict[str, NDArray[np.generic]]) -> HeadPack:
    order = np.argsort(data["triangle_material"], kind="stable")
    triangles = data["triangles"][order].astype(np.int32)
    corner_vertex = data["corner_vertex"].astype(np.int32)
    corner_uv = data["corner_uv"].astype(np.float32)
    landmarks = data["landmarks68"].astype(np.int32)
    uv = np.zeros((len(data["vertices"]), 2), np.float32)
    on_face = data["corner_material"] == FACE
    uv[corner_vertex[on_face]] = corner_uv[on_face]
    return HeadPack(
        mean=data["vertices"].astype(np.float32),
        identity_basis=data["identity_basis"].astype(np.float32),
        expression_basis=data["expression_basis"].astype(np.float32),
        landmarks=landmarks,
        neck_weight=data["neck_weight"].astype(np.float32),
        neck_pivot=data["neck_pivot"].astype(np.float32),
        ambient_occlusion=data["ao"].astype(np.float32),
        outer_skin=data["source_vertex"] < OUTER_SKIN_VERTICES,
        eyes=(data["eye_vertex_left"].astype(np.int32), data["eye_vertex_right"].astype(np.int32)),
        corner_vertex=corner_vertex,
        corner_uv=corner_uv,
        corner_material=data["corner_material"].astype(np.uint8),
        corner_eye_direction=data["corner_eye_dir"].astype(np.float32),
        triangles=triangles,
        triangle_material=data["triangle_material"][order].astype(np.int32),
        triangle_vertex=corner_vertex[triangles].astype(np.int32),
        landmark_uv=uv[landmarks],
        face_position=_enlarge(data["posmap_face"]),
        back_position=_enlarge(data["posmap_back"]),
    )


def _enlarge(stored: NDArray[np.generic]) -> Array:
    """The stored map holds every second texel of a 1024 map: texel k lies at 2 k, which a plain resize would miss."""
    grid = np.arange(POSITION_MAP_SIZE, dtype=np.float32) * (stored.shape[0] / POSITION_MAP_SIZE)
    x, y = np.meshgrid(grid, grid)
    return cv2.remap(stored.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
