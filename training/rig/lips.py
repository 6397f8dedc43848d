"""Lips of a person that close but never cross: the inner-lip gap is linear in the weights, so it can be solved."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.rig.expressions import INDEX
from training.rig.pack import HeadPack

Array = NDArray[np.float32]

PAIRS = ((61, 67), (62, 66), (63, 65))  # inner lip landmarks above each other
CLOSED_CM = -0.07  # lips press into each other by this much when closed
CROSSED_CM = -0.11  # and never by more than this


@dataclass(frozen=True)
class Lips:
    """Gap (cm) of the middle of the inner lips: rest + weights @ per_weight."""

    rest: float
    per_weight: Array  # [60]

    @classmethod
    def of(cls, pack: HeadPack, base: Array) -> "Lips":
        upper, lower = pack.landmarks[62], pack.landmarks[66]
        return cls(
            float(base[upper, 1] - base[lower, 1]),
            pack.expression_basis[:, upper, 1] - pack.expression_basis[:, lower, 1],
        )

    def gap(self, expressions: Array) -> Array:
        return self.rest + expressions @ self.per_weight

    def fix(self, expressions: ArrayLike, closure: ArrayLike) -> Array:
        """Closes the lips where closure [n] is 1 and keeps them from crossing; expressions [n, 60] -> new [n, 60]."""
        out = np.array(expressions, np.float32)
        gap = self.gap(out)
        change = np.where(gap > CLOSED_CM, (CLOSED_CM - gap) * np.asarray(closure, np.float32), 0)
        change = np.where(gap + change < CROSSED_CM, CROSSED_CM - gap, change)
        out[..., INDEX["mouthClose"]] += change / self.per_weight[INDEX["mouthClose"]]
        return out
