"""Reads the two kinds of Wavefront OBJ that a blend-shape model needs: one full mesh, and many bare vertex lists."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class ObjError(Exception):
    """An OBJ file that cannot be used; the message names file and reason."""


@dataclass(frozen=True)
class Wavefront:
    """A mesh: vertices [V, 3] float32, uv [T, 2] float64, triangles [F, 3, 2] of (vertex, uv) numbers from 0."""

    vertices: NDArray[np.float32]
    uv: NDArray[np.float64]
    triangles: NDArray[np.int64]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="strict").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ObjError(f"{path} cannot be read: {error}") from None


def _numbers(path: Path, lines: list[str], tag: str, count: int) -> NDArray[np.float64]:
    """The first `count` numbers of every line that starts with the tag."""
    try:
        rows = [line.split()[1 : 1 + count] for line in lines if line.startswith(tag + " ")]
        out = np.array(rows, np.float64).reshape(-1, count)
    except ValueError:
        raise ObjError(f"{path}: a '{tag}' line does not hold {count} numbers") from None
    if not np.isfinite(out).all():
        raise ObjError(f"{path}: a '{tag}' line holds a number that is not finite")
    return out


def read_vertices(path: Path) -> NDArray[np.float32]:
    """Vertices [V, 3] of an OBJ file. Raises ObjError."""
    points = _numbers(path, _lines(path), "v", 3).astype(np.float32)
    if not len(points):
        raise ObjError(f"{path} holds no vertices")
    return points


def read_mesh(path: Path) -> Wavefront:
    """A mesh with uv; polygons are split into fans. Raises ObjError."""
    lines = _lines(path)
    vertices = _numbers(path, lines, "v", 3).astype(np.float32)
    uv = _numbers(path, lines, "vt", 2)
    triangles: list[tuple[tuple[int, int], ...]] = []
    for number, line in enumerate(lines, 1):
        if not line.startswith("f "):
            continue
        try:
            corners = [(int(word.split("/")[0]) - 1, int(word.split("/")[1]) - 1) for word in line.split()[1:]]
        except (ValueError, IndexError):
            raise ObjError(f"{path}, line {number}: faces need vertex/uv numbers, found '{line}'") from None
        triangles += [(corners[0], corners[k], corners[k + 1]) for k in range(1, len(corners) - 1)]
    faces = np.array(triangles, np.int64).reshape(-1, 3, 2)
    if not len(faces):
        raise ObjError(f"{path} holds no faces")
    if faces.min() < 0 or faces[..., 0].max() >= len(vertices) or faces[..., 1].max() >= len(uv):
        raise ObjError(f"{path}: a face refers to a vertex or uv that the file does not hold")
    return Wavefront(vertices, uv, faces)
