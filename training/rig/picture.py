"""From premultiplied float pixels to RGBA with straight alpha."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

SMALLEST = 1  # pixels of the coarsest level


@njit(cache=True, fastmath=True)
def _halve(fine, coarse):
    for y in range(coarse.shape[0]):
        for x in range(coarse.shape[1]):
            for k in range(4):
                coarse[y, x, k] = np.float32(0.25) * (
                    fine[2 * y, 2 * x, k] + fine[2 * y, 2 * x + 1, k]
                    + fine[2 * y + 1, 2 * x, k] + fine[2 * y + 1, 2 * x + 1, k]
                )  # fmt: skip


@njit(cache=True, fastmath=True)
def _fill(fine, coarse):
    """Gives empty pixels the colour of the next coarser level, with a trace of alpha that marks them as filled."""
    trace = np.float32(1e-6)
    for y in range(fine.shape[0]):
        for x in range(fine.shape[1]):
            if fine[y, x, 3] <= 0 and coarse[y // 2, x // 2, 3] > 0:
                share = trace / coarse[y // 2, x // 2, 3]
                for k in range(3):
                    fine[y, x, k] = coarse[y // 2, x // 2, k] * share
                fine[y, x, 3] = trace


@njit(cache=True, fastmath=True)
def _to_bytes(premultiplied, out):
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            alpha = premultiplied[y, x, 3]
            inverse = np.float32(1.0) / alpha if alpha > 0 else np.float32(0.0)
            for k in range(3):
                out[y, x, k] = np.uint8(min(premultiplied[y, x, k] * inverse + np.float32(0.5), np.float32(255.0)))
            out[y, x, 3] = np.uint8(alpha * np.float32(255.0) + np.float32(0.5))


def fill_empty(premultiplied: NDArray[np.float32]) -> None:
    """Gives the empty pixels of [S, S, 4] the colour of their surroundings, in place, with a trace of alpha."""
    levels = [premultiplied]
    while min(levels[-1].shape[:2]) > SMALLEST and levels[-1].shape[0] % 2 == 0 and levels[-1].shape[1] % 2 == 0:
        h, w = levels[-1].shape[:2]
        levels.append(np.empty((h // 2, w // 2, 4), np.float32))
        _halve(levels[-2], levels[-1])
    for fine, coarse in zip(levels[-2::-1], levels[:0:-1]):
        _fill(fine, coarse)


def straight_alpha(premultiplied: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[S, S, 4] premultiplied 0..255 with alpha 0..1 (overwritten) -> uint8 RGBA with straight alpha.

    Empty pixels take the colour of their surroundings, so that scaling or compressing the picture later pulls no
    dark fringe into the edge.
    """
    fill_empty(premultiplied)
    out = np.empty(premultiplied.shape, np.uint8)
    _to_bytes(premultiplied, out)
    return out
