"""Picture kind `layers`: a person's stills repainted, turned, blended and lit, as docs/formats.md numbers the steps.

All on uint8 with OpenCV, in buffers that are made once. The picture is drawn in bands, each as wide as the bust is there and from
the stills that have a say there, since most of a frame is empty and most of a face comes from one still.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
_SILENT = 1 / 256  # a weight below this, or a gain this near 1, cannot be seen
_BANDS = 6


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


@dataclass(frozen=True)
class Band:
    """What is drawn at once: `whole` from the still that says most there, then the others where each has a say."""

    whole: Region
    stills: tuple[tuple[int, Region], ...]


class LayersPainter:
    """Draws frames of one person. `stills [K, S, S, 4]` uint8 straight, `face_box` (x, y, w, h). One thread at a time."""

    def __init__(self, stills: Pixels, face_box: tuple[int, int, int, int]) -> None:
        x, y, w, h = face_box
        self._size = size = stills.shape[1]
        self._stills = [premultiply(still) for still in stills]
        self._front = self._stills[0].copy()  # still 0 with this frame's face in its box
        self._box = self._front[y : y + h, x : x + w]
        self._face_size = (w, h)
        self._face_alpha = np.ascontiguousarray(self._stills[0][y : y + h, x : x + w, 3].astype(np.float32) / 255)
        columns, rows = np.arange(x, x + w, dtype=np.float32), np.arange(y, y + h, dtype=np.float32)
        self._box_x, self._box_y = np.meshgrid(columns, rows)
        self._look_x, self._look_y, self._keep = (np.empty((h, w), np.float32) for _ in range(3))
        self._colour = np.empty((h, w, 4), np.float32)
        self._warped, self._painted, self._face = (np.empty((h, w, 4), np.uint8) for _ in range(3))
        self._looks = np.empty((2, size, size), np.float32)
        self._weight, self._sum = np.empty((size, size), np.float32), np.empty((size, size), np.float32)
        self._turned, self._mixed = (np.empty((size, size, 4), np.uint8) for _ in range(2))
        self._gain = np.empty((size, size, 4), np.float32)
        self._solid: list[Pixels] = []

    def paint(self, outputs: Mapping[str, Array]) -> Pixels:
        """The decoder's picture outputs (docs/formats.md) -> a new frame [S, S, 4] uint8, premultiplied."""
        grid, weight, gain = outputs["grid"], outputs["weight"][0], outputs["gain"][0]
        bands = self._bands(grid, weight)
        lit = float(np.abs(gain - 1.0).max()) > _SILENT
        light = cv2.merge([gain[0], gain[1], gain[2], np.ones_like(gain[0])]) if lit else None
        if any(k == 0 for band in bands for k, _ in band.stills):
            self._repaint(outputs["paint"][0], outputs["paint_flow"][0])
        frame: Pixels = np.zeros((self._size, self._size, 4), np.uint8)
        for band in bands:
            # The last operation writes into the frame itself.
            place = self._pixels(band.whole, weight.shape[1])
            self._blend(band, grid, weight, frame if light is None else self._mixed)
            if light is not None:
                lamp = self._enlarge(light, band.whole, self._gain)
                cv2.multiply(self._mixed[place], lamp, dst=frame[place], dtype=cv2.CV_8U)
        return frame

    def _pixels(self, region: Region, count: int) -> tuple[slice, slice]:
        """Where a region of cells lies in the picture."""
        top, bottom, left, right = (
            round(side * self._size / count) for side in (region.top, region.bottom, region.left, region.right)
        )
        return slice(top, bottom), slice(left, right)

    def _repaint(self, paint: Array, flow: Array) -> None:
        """Steps 1 and 2: `face = m * colour + (1 - m) * warped still`, put into the box of the front still."""
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
        cv2.merge([paint[0], paint[1], paint[2], self._face_alpha], dst=self._colour)
        cv2.convertScaleAbs(self._colour, dst=self._painted, alpha=255)
        mask = paint[3]
        cv2.subtract(1.0, mask, dst=self._keep)  # type: ignore[call-overload]
        cv2.blendLinear(self._painted, self._warped, mask, self._keep, dst=self._face)
        self._box[...] = self._face

    def _blend(self, band: Band, grid: Array, weight: Array, picture: Pixels) -> None:
        """Step 3 without the gain, in one band of `picture`: the stills that have a say, turned, over one another."""
        count = weight.shape[1]
        first, whole = band.stills[0]
        self._turn(first, grid, whole, picture[self._pixels(whole, count)])
        if len(band.stills) == 1:
            return
        total = self._sum[self._pixels(whole, count)]
        np.copyto(total, self._enlarge(weight[first], whole, self._weight))
        for k, region in band.stills[1:]:
            place = self._pixels(region, count)
            target, turned, total = picture[place], self._turned[place], self._sum[place]
            self._turn(k, grid, region, turned)
            share = self._enlarge(weight[k], region, self._weight)
            # blendLinear divides by the two weights' sum, so what was blended so far enters with all its weight.
            cv2.blendLinear(target, turned, total, share, dst=target)
            cv2.add(total, share, dst=total)

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

    def _bands(self, grid: Array, weight: Array) -> list[Band]:
        """The parts of the picture in which something shows."""
        stills, count = len(weight), weight.shape[1]
        speaks = weight > _SILENT
        order = sorted(range(stills), key=lambda k: -float(weight[k].sum()))
        if self._size % count:
            whole = Region(0, count, 0, count)
            return [Band(whole, tuple((k, whole) for k in order if speaks[k].any()))]
        shows = self._shows(grid, speaks)
        bands = []
        for rows in np.array_split(np.arange(count), _BANDS):
            columns, lines = np.flatnonzero(shows[rows].any(0)), np.flatnonzero(shows[rows].any(1))
            if len(lines):
                whole = Region(int(rows[lines[0]]), int(rows[lines[-1]]) + 1, int(columns[0]), int(columns[-1]) + 1)
                parts = ((k, _part(speaks[k], whole)) for k in order)
                said = [(k, part) for k, part in parts if part]
                bands.append(Band(whole, ((said[0][0], whole), *said[1:])))
        return bands

    def _shows(self, grid: Array, speaks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """[G, G]: cells in which some still with a say is not empty, with a rim of one cell."""
        count = speaks.shape[1]
        if not self._solid or self._solid[0].shape[0] != count:
            self._solid = [_solid_cells(still, count) for still in self._stills]
        scale = count / self._size
        shows = np.zeros((count, count), np.uint8)
        for k, solid in enumerate(self._solid):
            x, y = grid[k] * scale + (scale - 1) / 2
            looked = cv2.remap(solid, x, y, cv2.INTER_NEAREST)
            cv2.bitwise_or(shows, looked, dst=shows, mask=speaks[k].view(np.uint8))
        return np.asarray(cv2.dilate(shows, np.ones((3, 3), np.uint8))) > 0


def _part(speaks: NDArray[np.bool_], whole: Region) -> Region | None:
    """The columns of a band in which a still has a say; enlarging carries a weight to the neighbouring cells."""
    near = speaks[max(whole.top - 1, 0) : whole.bottom + 1, max(whole.left - 1, 0) : whole.right + 1]
    columns = np.flatnonzero(near.any(0)) + max(whole.left - 1, 0)
    if not len(columns):
        return None
    left, right = max(int(columns[0]) - 1, whole.left), min(int(columns[-1]) + 2, whole.right)
    return Region(whole.top, whole.bottom, left, right)


def _solid_cells(still: Pixels, count: int) -> Pixels:
    """[count, count] uint8: 255 where a cell, or one within two cells of it, is not quite empty. Painting moves edges that far."""
    step = still.shape[0] // count
    alpha = np.ascontiguousarray(still[..., 3]).reshape(count, step, count, step).max((1, 3))
    return np.asarray(cv2.dilate((alpha > 0).astype(np.uint8) * 255, np.ones((5, 5), np.uint8)))
