"""Picture kind `layers`: a person's stills repainted, turned, blended and lit, as docs/formats.md numbers the steps.

All on uint8 with OpenCV, in buffers that are made once. A still that has no say in a frame costs nothing.
"""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Region = tuple[int, int, int, int]  # left, top, right, bottom
_SILENT = 1 / 256  # a weight below this, or a gain this near 1, cannot be seen


def premultiply(rgba: Pixels) -> Pixels:
    """Straight RGBA [..., 4] uint8 -> colour times alpha, rounded."""
    wide = rgba.astype(np.uint16)
    wide[..., :3] = (wide[..., :3] * wide[..., 3:] + 127) // 255
    return wide.astype(np.uint8)


class LayersPainter:
    """Draws frames of one person. `stills [K, S, S, 4]` uint8 straight, `face_box` (x, y, w, h).

    One thread at a time.
    """

    def __init__(self, stills: Pixels, face_box: tuple[int, int, int, int]) -> None:
        x, y, w, h = face_box
        size = stills.shape[1]
        self._size = (size, size)
        self._stills = [premultiply(still) for still in stills]
        self._front = self._stills[0].copy()  # still 0 with this frame's face in its box
        self._box = self._front[y : y + h, x : x + w]
        self._face_size = (w, h)
        self._face_alpha = np.ascontiguousarray(self._stills[0][y : y + h, x : x + w, 3].astype(np.float32) / 255)
        self._box_x, self._box_y = np.meshgrid(
            np.arange(x, x + w, dtype=np.float32), np.arange(y, y + h, dtype=np.float32)
        )
        self._look_x, self._look_y, self._keep = (np.empty((h, w), np.float32) for _ in range(3))
        self._colour = np.empty((h, w, 4), np.float32)
        self._warped, self._painted, self._face = (np.empty((h, w, 4), np.uint8) for _ in range(3))
        self._grid_x, self._grid_y, self._weight, self._sum = (np.empty((size, size), np.float32) for _ in range(4))
        self._turned, self._mixed = (np.empty((size, size, 4), np.uint8) for _ in range(2))
        self._gain = np.empty((size, size, 4), np.float32)

    def paint(self, outputs: Mapping[str, Array]) -> Pixels:
        """The decoder's picture outputs (docs/formats.md) -> a new frame [S, S, 4] uint8, premultiplied."""
        weight, gain = outputs["weight"][0], outputs["gain"][0]
        regions = _regions(weight, self._size[0])
        lit = float(np.abs(gain - 1.0).max()) > _SILENT
        if 0 in regions:
            self._repaint(outputs["paint"][0], outputs["paint_flow"][0])
        frame: Pixels = np.empty((*self._size, 4), np.uint8)
        # The last operation writes into the frame itself.
        picture = self._blend(outputs["grid"], weight, regions, self._mixed if lit else frame)
        if lit:
            cells = cv2.merge([gain[0], gain[1], gain[2], np.ones_like(gain[0])])
            cv2.resize(cells, self._size, dst=self._gain, interpolation=cv2.INTER_LINEAR)
            cv2.multiply(picture, self._gain, dst=frame, dtype=cv2.CV_8U)
        return frame

    def _repaint(self, paint: Array, flow: Array) -> None:
        """Step 1 and 2: `face = m * colour + (1 - m) * warped still`, put into the box of the front still."""
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
        np.multiply(self._colour, 255.0, out=self._colour)
        np.rint(self._colour, out=self._colour)
        np.clip(self._colour, 0, 255, out=self._colour)
        self._painted[...] = self._colour
        mask = paint[3]
        np.subtract(1.0, mask, out=self._keep)
        cv2.blendLinear(self._painted, self._warped, mask, self._keep, dst=self._face)
        self._box[...] = self._face

    def _blend(self, grid: Array, weight: Array, regions: dict[int, Region], target: Pixels) -> Pixels:
        """Step 3 without the gain: the stills, turned, in one picture; `target` receives it.

        The first region is all of it.
        """
        whole = self._size[0]
        for number, (k, (left, top, right, bottom)) in enumerate(regions.items()):
            still = self._front if k == 0 else self._stills[k]
            if number == 0:
                self._turn(still, grid[k], (0, 0, whole, whole), target)
                if len(regions) > 1:
                    cv2.resize(weight[k], self._size, dst=self._sum, interpolation=cv2.INTER_LINEAR)
                continue
            part = np.s_[top:bottom, left:right]
            self._turn(still, grid[k], (left, top, right, bottom), self._turned[part])
            cv2.resize(weight[k], self._size, dst=self._weight, interpolation=cv2.INTER_LINEAR)
            # blendLinear divides by the two weights' sum, so what was blended so far enters with all its weight.
            cv2.blendLinear(target[part], self._turned[part], self._sum[part], self._weight[part], dst=target[part])
            cv2.add(self._sum[part], self._weight[part], dst=self._sum[part])
        return target

    def _turn(self, still: Pixels, grid: Array, region: Region, target: Pixels) -> None:
        cv2.resize(grid[0], self._size, dst=self._grid_x, interpolation=cv2.INTER_LINEAR)
        cv2.resize(grid[1], self._size, dst=self._grid_y, interpolation=cv2.INTER_LINEAR)
        left, top, right, bottom = region
        looks = self._grid_x[top:bottom, left:right], self._grid_y[top:bottom, left:right]
        cv2.remap(still, *looks, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_CONSTANT)


def _regions(weight: Array, size: int) -> dict[int, Region]:
    """For each still with a say, where it has one, in pixels; the one that says most comes first and counts
    everywhere.
    """
    cells = weight.shape[1]
    order = sorted(range(len(weight)), key=lambda k: -float(weight[k].sum()))
    regions: dict[int, Region] = {order[0]: (0, 0, size, size)}
    for k in order[1:]:
        rows, columns = np.flatnonzero(weight[k].max(1) > _SILENT), np.flatnonzero(weight[k].max(0) > _SILENT)
        if len(rows):
            # One cell more all round: enlarging carries a weight to its neighbours.
            sides = columns[0] - 1, rows[0] - 1, columns[-1] + 2, rows[-1] + 2
            left, top, right, bottom = (min(max(int(side) * size // cells, 0), size) for side in sides)
            regions[k] = (left, top, right, bottom)
    return regions
