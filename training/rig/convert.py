"""Builds a head pack from the official ICT-FaceKit repository: `python -m training.rig.convert ICT_FACEKIT OUT.npz`.

The repository (github.com/ICT-VGL/ICT-FaceKit, MIT) holds `FaceXModel/*.obj`: the generic neutral mesh, 100 identity
meshes and the expression meshes, all in one topology; uv tiles (UDIM) name the materials. What ICT-FaceKit lacks is
ours: tongue shapes and ambient occlusion (assets/own.npz), head bone, eye directions and position maps (computed).
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.progress import track

from training.rig.expressions import EXPRESSIONS
from training.rig.pack import BACK, EYE_LEFT, EYE_RIGHT, FACE, MOUTH, TEETH
from training.rig.position_map import position_map
from training.rig.wavefront import ObjError, Wavefront, read_mesh, read_vertices

Array = NDArray[np.float32]
OWN_ARRAYS = Path(__file__).parent / "assets" / "own.npz"
OWN_EXPRESSIONS = ("tongueUp", "tongueOut", "tongueBack")
NECK_PIVOT = (0.0, -7.5, -1.0)
NECK_BOTTOM_Y_CM, NECK_HEIGHT_CM = -15.0, 9.5


class ConvertError(Exception):
    """The repository is not what is expected; the message says what is missing."""


@dataclass(frozen=True)
class Topology:
    """Vertex numbers of the model's parts. The defaults are those of the ICT Face Model Light (its README)."""

    vertices: int = 26719
    left_outside: tuple[tuple[int, int], ...] = ((22221, 23020), (23791, 24590), (24591, 25350))  # iris, fluid, blends
    mouth_socket: tuple[int, int] = (11248, 13293)
    left_eye: tuple[int, int] = (21451, 22220)
    right_eye: tuple[int, int] = (23021, 23790)
    landmarks: tuple[int, ...] = (
        1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443, 268, 493,
        1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360, 1507, 1542,
        1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732, 5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461,
        5518, 5957, 5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,
    )  # fmt: skip

    def kept(self) -> NDArray[np.int64]:
        """The vertices that the pack keeps, in order."""
        keep = np.ones(self.vertices, bool)
        for first, last in self.left_outside:
            keep[first : last + 1] = False
        return np.flatnonzero(keep)


def _model_folder(repository: Path) -> Path:
    folder = repository / "FaceXModel"
    if not folder.is_dir():
        raise ConvertError(
            f"{repository} has no FaceXModel folder: give the root of a clone of github.com/ICT-VGL/ICT-FaceKit"
        )
    listed = folder / "vertex_indices.json"
    try:
        known = set(json.loads(listed.read_text())["expressions"])
    except (OSError, ValueError, KeyError) as error:
        raise ConvertError(f"{listed} cannot be read ({error}): the clone is incomplete, fetch it again") from None
    strange = known - set(EXPRESSIONS)
    if strange:
        raise ConvertError(f"{listed} names expressions unknown here: {', '.join(sorted(strange))}")
    return folder


def _shapes(folder: Path, names: list[str], neutral: Array, keep: NDArray[np.int64], what: str) -> NDArray[np.float16]:
    """Deltas [len(names), N, 3] of meshes against the neutral one."""
    out = np.empty((len(names), len(keep), 3), np.float16)
    for k, name in enumerate(track(names, what, disable=not sys.stderr.isatty())):
        points = read_vertices(folder / f"{name}.obj")
        if points.shape != neutral.shape:
            raise ConvertError(
                f"{folder / name}.obj has {len(points)} vertices, the neutral mesh {len(neutral)}: fetch the clone again"
            )
        out[k] = (points - neutral)[keep]
    return out


def convert(repository: Path, own_arrays: Path = OWN_ARRAYS, topology: Topology | None = None) -> dict[str, NDArray]:
    """All arrays of a head pack. Raises ConvertError or ObjError when the repository is not as expected."""
    topology = topology or Topology()
    folder = _model_folder(repository)
    mesh = read_mesh(folder / "generic_neutral_mesh.obj")
    if len(mesh.vertices) != topology.vertices:
        raise ConvertError(
            f"the neutral mesh has {len(mesh.vertices)} vertices instead of {topology.vertices}: this is another "
            "version of the model; take the current main branch of ICT-FaceKit"
        )
    identities = sorted(path.stem for path in folder.glob("identity[0-9][0-9][0-9].obj"))
    if not identities or identities != [f"identity{k:03d}" for k in range(len(identities))]:
        raise ConvertError(f"{folder} lacks identity meshes: found {len(identities)}, expected identity000.obj onwards")
    keep = topology.kept()
    given = [name for name in EXPRESSIONS if name not in OWN_EXPRESSIONS]
    missing = [name for name in given if not (folder / f"{name}.obj").is_file()]
    if missing:
        raise ConvertError(
            f"{folder} lacks {missing[0]}.obj ({len(missing)} expressions missing): fetch the clone again"
        )
    own = dict(np.load(own_arrays, allow_pickle=False))
    new_id = np.full(topology.vertices, -1, np.int64)
    new_id[keep] = np.arange(len(keep))
    vertices = mesh.vertices[keep]
    expressions = _shapes(folder, given, mesh.vertices, keep, "expressions")
    arrays = _render_mesh(mesh, topology, new_id, vertices)
    return {
        **arrays,
        "vertices": vertices,
        "identity_basis": _shapes(folder, identities, mesh.vertices, keep, "identities"),
        "expression_basis": np.concatenate([expressions, _tongue(own, new_id, len(keep))]),
        "expression_names": np.array(EXPRESSIONS),
        "landmarks68": new_id[list(topology.landmarks)].astype(np.int32),
        "neck_weight": _neck_weight(vertices).astype(np.float16),
        "neck_pivot": np.array(NECK_PIVOT, np.float32),
        "ao": _scatter(own, new_id, len(keep)),
        "source_vertex": keep.astype(np.int32),
        "eye_vertex_left": new_id[topology.left_eye[0] : topology.left_eye[1] + 1].astype(np.int32),
        "eye_vertex_right": new_id[topology.right_eye[0] : topology.right_eye[1] + 1].astype(np.int32),
    }


def _neck_weight(vertices: Array) -> Array:
    """How much a vertex follows the head: 0 at the shoulders, 1 from the jaw up."""
    t = np.clip((vertices[:, 1] - NECK_BOTTOM_Y_CM) / NECK_HEIGHT_CM, 0, 1)
    return t * t * (3 - 2 * t)


def _tongue(own: dict[str, NDArray], new_id: NDArray[np.int64], n: int) -> NDArray[np.float16]:
    out = np.zeros((len(OWN_EXPRESSIONS), n, 3), np.float16)
    at = new_id[own["tongue_vertex"]]
    out[:, at[at >= 0]] = own["tongue_deltas"][:, at >= 0]
    return out


def _scatter(own: dict[str, NDArray], new_id: NDArray[np.int64], n: int) -> NDArray[np.float16]:
    """Baked visibility 0..1 per kept vertex; 1 where none was baked."""
    out = np.ones(n, np.float16)
    at = new_id[own["ao_vertex"]]
    out[at[at >= 0]] = own["ao"][at >= 0].astype(np.float32) / 255
    return out


def _render_mesh(mesh: Wavefront, topology: Topology, new_id: NDArray[np.int64], vertices: Array) -> dict[str, NDArray]:
    """Corners (vertex and uv pairs), triangles, materials, eye directions and position maps."""
    corners = mesh.triangles.reshape(-1, 2)
    kept = (new_id[corners[:, 0]] >= 0).reshape(-1, 3).all(1)
    pairs, index = np.unique(corners.reshape(-1, 3, 2)[kept].reshape(-1, 2), axis=0, return_inverse=True)
    triangles = index.reshape(-1, 3).astype(np.int32)
    uv = mesh.uv[pairs[:, 1]]
    tile = np.floor(uv).astype(np.int64)
    corner_vertex = new_id[pairs[:, 0]].astype(np.int32)
    material = tile[:, 0].astype(np.uint8)
    triangle_material = material[triangles[:, 0]].copy()
    first, last = topology.mouth_socket
    source = pairs[:, 0][triangles]
    triangle_material[((source >= first) & (source <= last)).all(1)] = MOUTH
    if triangle_material.max(initial=0) > TEETH + 3:
        raise ConvertError("uv tiles of the neutral mesh are not those of the ICT Face Model Light")
    inside = (uv - tile).astype(np.float32)
    eye_direction = np.zeros((len(pairs), 3), np.float16)
    for which in (EYE_LEFT, EYE_RIGHT):
        rows = np.flatnonzero(material == which)
        if len(rows):
            eye_direction[rows] = _eye_direction(vertices[corner_vertex[rows]])
    placed = vertices[corner_vertex]
    maps = {
        name: position_map(placed, inside, triangles[(material[triangles] == tile_id).all(1)])
        for name, tile_id in (("posmap_face", FACE), ("posmap_back", BACK))
    }
    return {
        **maps,
        "corner_vertex": corner_vertex,
        "corner_uv": inside,
        "corner_material": material,
        "corner_eye_dir": eye_direction,
        "triangles": triangles,
        "triangle_material": triangle_material,
    }


def _eye_direction(ball: Array) -> Array:
    """Unit directions from the centre of an eyeball; the lens bulges, so its depth comes from the back."""
    radius = (ball[:, 0].max() - ball[:, 0].min()) / 2
    centre = (ball.max(0) + ball.min(0)) / 2
    centre[2] = ball[:, 2].min() + radius
    away = ball - centre
    return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)


@dataclass(frozen=True)
class ConvertOptions:
    """Write a head pack from a clone of github.com/ICT-VGL/ICT-FaceKit."""

    repository: Annotated[Path, tyro.conf.Positional]
    """Root of the clone (the folder that holds FaceXModel)."""
    out: Annotated[Path, tyro.conf.Positional]
    """The pack to write, such as head_pack.npz."""


def main() -> int:
    options = tyro.cli(ConvertOptions)
    part = options.out.with_name(options.out.name + ".part.npz")
    try:
        arrays = convert(options.repository)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(part, **arrays)
        os.replace(part, options.out)
    except (ConvertError, ObjError, OSError) as error:
        part.unlink(missing_ok=True)
        print(f"convert: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: {len(arrays['vertices'])} vertices, {len(arrays['identity_basis'])} identities")
    return 0


if __name__ == "__main__":
    sys.exit(main())
