"""A piece of geometry that is joined to the head: hair, clothes, glasses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Corners [n, ...] and triangles of one material, at rest, in head space (cm).

    attr, by material: cloth trim, v, ambient occlusion; hair along, tone, depth, across, seed, density.
    """

    material: int
    points: Array  # [n, 3]
    normals: Array  # [n, 3]
    attr: Array  # [n, 6]
    head_weight: Array  # [n] 0 shoulders .. 1 follows the head
    triangles: NDArray[np.int32]  # [f, 3]
    tangents: Array | None = None  # [n, 3], hair only

    @classmethod
    def join(cls, pieces: "list[Part]") -> "Part":
        """Several pieces of the same material as one."""
        first = np.cumsum([0, *(len(piece.points) for piece in pieces)])
        return cls(
            pieces[0].material,
            *(
                np.concatenate([getattr(p, name) for p in pieces])
                for name in ("points", "normals", "attr", "head_weight")
            ),
            np.concatenate([p.triangles + start for p, start in zip(pieces, first)]).astype(np.int32),
            None if pieces[0].tangents is None else np.concatenate([p.tangents for p in pieces]),
        )


def float32(*arrays) -> list[Array]:
    return [np.ascontiguousarray(a, np.float32) for a in arrays]


def columns(*values: Array | float, count: int) -> Array:
    """[count, 6] attributes from up to six columns."""
    out = np.zeros((count, 6), np.float32)
    for i, value in enumerate(values):
        out[:, i] = value
    return out
