"""Picture kind `layers`: a person's stills repainted, turned, blended and lit, as docs/formats.md numbers the steps.

All on uint8 with OpenCV, in buffers that are made once. A still that has no say in a frame costs nothing.
"""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
_SILENT = 1 / 512  # a weight below this cannot change a pixel by one level; nor can a gain this near 1


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
        active = [k for k in range(len(self._stills)) if weight[k].max() > _SILENT] or [0]
        lit = float(np.abs(gain - 1.0).max()) > _SILENT
        if 0 in active:
            self._repaint(outputs["paint"][0], outputs["paint_flow"][0])
        frame: Pixels = np.empty((*self._size, 4), np.uint8)
        # The last operation writes into the frame itself.
        picture = self._blend(active, outputs["grid"], weight, self._mixed if lit else frame)
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

    def _blend(self, active: list[int], grid: Array, weight: Array, target: Pixels) -> Pixels:
        """Step 3 without the gain: the active stills, turned, in one picture; `target` receives it."""
        for number, k in enumerate(active):
            turned = target if number == 0 else self._turned
            self._turn(self._front if k == 0 else self._stills[k], grid[k], turned)
            if len(active) == 1:
                break
            cv2.resize(weight[k], self._size, dst=self._weight, interpolation=cv2.INTER_LINEAR)
            if number == 0:
                np.copyto(self._sum, self._weight)
                continue
            # blendLinear divides by the two weights' sum, so what was blended so far enters with all its weight.
            cv2.blendLinear(target, turned, self._sum, self._weight, dst=target)
            np.add(self._sum, self._weight, out=self._sum)
        return target

    def _turn(self, still: Pixels, grid: Array, target: Pixels) -> None:
        cv2.resize(grid[0], self._size, dst=self._grid_x, interpolation=cv2.INTER_LINEAR)
        cv2.resize(grid[1], self._size, dst=self._grid_y, interpolation=cv2.INTER_LINEAR)
        cv2.remap(still, self._grid_x, self._grid_y, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_CONSTANT)
