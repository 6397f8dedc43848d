"""Picture kind `layers`: a person's stills repainted, turned, blended and lit, as docs/formats.md numbers the steps.

All on uint8 with OpenCV, in buffers that are made once. The picture is drawn in bands, each still where it has a say in something
that shows, since most of a frame is empty and most of a face comes from one still.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]
_SILENT = 1 / 256  # a weight below this cannot be seen
_BANDS = 3
_AROUND = np.ones((3, 3), np.uint8)


def premultiply(rgba: Pixels) -> Pixels:
    """Straight RGBA [..., 4] uint8 -> colour times alpha, rounded."""
    wide = rgba.astype(np.uint16)
    wide[..., :3] = (wide[..., :3] * wide[..., 3:] + 127) // 255
    return wide.astype(np.uint8)


@dataclass(frozen=True)
class Region:
    """A rectangle of cells, ends exclusive."""

    top: int
    bottom: int
    left: int
    right: int


class LayersPainter:
    """Draws frames of one person. `stills [K, S, S, 4]` uint8 straight, `face_box` (x, y, w, h), `patches` as in the
    manifest. One thread at a time.
    """

    def __init__(self, stills: Pixels, face_box: Rectangle, patches: Mapping[str, Rectangle] | None = None) -> None:
        x, y, w, h = face_box
        self._patches = {
            name: (slice(top - y, top - y + high), slice(left - x, left - x + wide))
            for name, (left, top, wide, high) in (patches or {}).items()
        }
        self._size = size = stills.shape[1]
        self._stills = [premultiply(still) for still in stills]
        self._front = self._stills[0].copy()  # still 0 with this frame's face in its box
        self._box = self._front[y : y + h, x : x + w]
        self._face_size = (w, h)
        columns, rows = np.arange(x, x + w, dtype=np.float32), np.arange(y, y + h, dtype=np.float32)
        self._box_x, self._box_y = np.meshgrid(columns, rows)
        self._look_x, self._look_y, self._mask, self._keep = (np.empty((h, w), np.float32) for _ in range(4))
        self._warped, self._painted, self._face = (np.empty((h, w, 4), np.uint8) for _ in range(3))
        self._face_alpha = self._stills[0][y : y + h, x : x + w, 3].copy()
        self._looks = np.empty((2, size, size), np.float32)
        self._turned, self._share = np.empty((size, size, 4), np.uint8), np.empty((size, size, 4), np.float32)
        self._solid: list[Pixels] = []

    def paint(self, outputs: Mapping[str, Array]) -> Pixels:
        """The decoder's picture outputs (docs/formats.md) -> a new frame [S, S, 4] uint8, premultiplied."""
        grid, weight = outputs["grid"], _decided(outputs["weight"][0])
        parts = self._parts(grid, weight)
        shares = _shares(weight, outputs["gain"][0])
        if any(k == 0 for k, _ in parts):
            self._repaint(outputs)
        frame: Pixels = np.zeros((self._size, self._size, 4), np.uint8)
        for k, region in parts:
            target = frame[self._pixels(region, weight.shape[1])]
            turned = self._turned[: target.shape[0], : target.shape[1]]
            self._turn(k, grid, region, turned)
            share = self._enlarge(shares[k], region, self._share)
            cv2.multiply(turned, share, dst=turned, dtype=cv2.CV_8U)
            cv2.add(target, turned, dst=target)
        return frame

    def _pixels(self, region: Region, count: int) -> tuple[slice, slice]:
        """Where a region of cells lies in the picture."""
        top, bottom, left, right = (
            round(side * self._size / count) for side in (region.top, region.bottom, region.left, region.right)
        )
        return slice(top, bottom), slice(left, right)

    def _repaint(self, outputs: Mapping[str, Array]) -> None:
        """Steps 1 and 2: `face = m * colour + (1 - m) * warped still`, put into the box of the front still."""
        paint, flow = outputs["paint"][0], outputs["paint_flow"][0]
        for look, base, plane in ((self._look_x, self._box_x, flow[0]), (self._look_y, self._box_y, flow[1])):
            cv2.resize(plane, self._face_size, dst=look, interpolation=cv2.INTER_LINEAR)
            cv2.add(look, base, dst=look)
        cv2.remap(
            self._stills[0],
            self._look_x,
            self._look_y,
            cv2.INTER_LINEAR,
            dst=self._warped,
            borderMode=cv2.BORDER_CONSTANT,
        )
        cv2.resize(_levels(paint), self._face_size, dst=self._painted, interpolation=cv2.INTER_LINEAR)
        cv2.resize(paint[3], self._face_size, dst=self._mask, interpolation=cv2.INTER_LINEAR)
        for name, place in self._patches.items():
            self._painted[place] = _levels(outputs[name][0])
            self._mask[place] = outputs[name][0, 3]
        cv2.insertChannel(self._face_alpha, self._painted, 3)
        cv2.subtract(1.0, self._mask, dst=self._keep)  # type: ignore[call-overload]
        cv2.blendLinear(self._painted, self._warped, self._mask, self._keep, dst=self._face)
        self._box[...] = self._face

    def _turn(self, k: int, grid: Array, region: Region, target: Pixels) -> None:
        """One still as the grid looks at it, in one region."""
        x, y = (self._enlarge(grid[k, axis], region, self._looks[axis]) for axis in (0, 1))
        still = self._front if k == 0 else self._stills[k]
        cv2.remap(still, x, y, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_CONSTANT)

    def _enlarge(self, cells: Array, region: Region, buffer: Array) -> Array:
        """A plane of cells (or several, last axis) over one region -> pixels, as if the whole plane were enlarged."""
        count = cells.shape[0]
        if self._size % count:  # a cell is no whole number of pixels: then all of the picture is one region
            return np.asarray(cv2.resize(cells, (self._size, self._size), dst=buffer, interpolation=cv2.INTER_LINEAR))
        step = self._size // count
        top, bottom = max(region.top - 1, 0), min(region.bottom + 1, count)
        left, right = max(region.left - 1, 0), min(region.right + 1, count)
        pixels = buffer[: (bottom - top) * step, : (right - left) * step]
        cv2.resize(cells[top:bottom, left:right], pixels.shape[1::-1], dst=pixels, interpolation=cv2.INTER_LINEAR)
        y, x = (region.top - top) * step, (region.left - left) * step
        return pixels[y : y + (region.bottom - region.top) * step, x : x + (region.right - region.left) * step]

    def _parts(self, grid: Array, weight: Array) -> list[tuple[int, Region]]:
        """What there is to draw: stills, and where each has a say in something that shows."""
        stills, count = len(weight), weight.shape[1]
        speaks = weight > 0
        if self._size % count:
            return [(k, Region(0, count, 0, count)) for k in range(stills) if speaks[k].any()]
        shows = self._shows(grid, speaks)
        parts = []
        for k, plane in enumerate(speaks):
            # enlarging carries a weight to the next cell
            near = cv2.bitwise_and(cv2.dilate(plane.view(np.uint8) * 255, _AROUND), shows)
            for top, bottom in pairwise(np.linspace(0, count, _BANDS + 1).astype(int).tolist()):
                x, y, wide, high = cv2.boundingRect(near[top:bottom])
                if high:
                    parts.append((k, Region(top + y, top + y + high, x, x + wide)))
        return parts

    def _shows(self, grid: Array, speaks: NDArray[np.bool_]) -> Pixels:
        """[G, G], above 0: cells in which some still with a say is not empty, with a rim of one cell."""
        count = speaks.shape[1]
        if not self._solid or self._solid[0].shape[0] != count:
            self._solid = [_solid_cells(still, count) for still in self._stills]
        scale = count / self._size
        shows = np.zeros((count, count), np.uint8)
        for k, solid in enumerate(self._solid):
            x, y = grid[k] * scale + (scale - 1) / 2
            looked = cv2.remap(solid, x, y, cv2.INTER_NEAREST)
            cv2.bitwise_or(shows, looked, dst=shows, mask=speaks[k].view(np.uint8))
        return np.asarray(cv2.dilate(shows, _AROUND), np.uint8)


def _levels(planes: Array) -> Pixels:
    """[4, h, w] 0..1 -> [h, w, 4] uint8."""
    return np.asarray(cv2.convertScaleAbs(cv2.merge(list(planes)), alpha=255), np.uint8)


def _decided(weight: Array) -> Array:
    """[K, G, G]: weights that cannot be seen become 0, the others sum to 1 again."""
    weight = np.where(weight > _SILENT, weight, np.float32(0))
    return np.asarray(weight / weight.sum(0), np.float32)


def _shares(weight: Array, gain: Array) -> list[Array]:
    """Per still [G, G, 4]: what its red, green, blue and alpha are multiplied with, weight times gain."""
    return [np.asarray(cv2.merge([*(gain * plane), plane])) for plane in weight]


def _solid_cells(still: Pixels, count: int) -> Pixels:
    """[count, count] uint8: 255 where a cell, or one within two cells of it, is not quite empty. Painting moves edges that far."""
    step = still.shape[0] // count
    alpha = np.ascontiguousarray(still[..., 3]).reshape(count, step, count, step).max((1, 3))
    return np.asarray(cv2.dilate((alpha > 0).astype(np.uint8) * 255, np.ones((5, 5), np.uint8)))
