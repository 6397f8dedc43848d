"""The bust in front of a background: premultiplied frames become the camera's RGB picture.

The background is made once; a frame costs one enlargement of the bust and one blend of its rectangle.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.controls import Background, Framing
from engine.errors import ControlError

Pixels = NDArray[np.uint8]
_BLUR_SHARE = 0.025  # standard deviation of the blur as a share of the frame's height
_SUNK_SHARE = 0.032  # of the bust that a wide frame leaves out below
_PICTURE_LIMIT_BYTES = 64 * 1024 * 1024


def load_background(background: Background, width: int, height: int) -> Pixels:
    """RGB [height, width, 3] uint8; a picture is scaled to cover the frame. Raises `ControlError` for an unreadable
    picture.

    `transparent` is black here: it only matters where the alpha is kept.
    """
    if background.kind == "transparent":
        return np.zeros((height, width, 3), np.uint8)
    if background.kind == "colour" or background.image is None:
        return np.full((height, width, 3), background.colour, np.uint8)
    picture = _cover(_read_picture(background.image), width, height)
    if background.kind == "blurred":
        # At a quarter of the size nobody sees the difference, and it is sixteen times quicker.
        small = cv2.resize(picture, (max(width // 4, 1), max(height // 4, 1)), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), _BLUR_SHARE * height / 4, borderType=cv2.BORDER_REPLICATE)
        picture = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    return picture


def _read_picture(file: Path) -> Pixels:
    try:
        data = file.read_bytes() if file.stat().st_size <= _PICTURE_LIMIT_BYTES else b""
    except OSError as error:
        raise ControlError(f"background {file} cannot be read ({error.strerror}); choose another picture") from None
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise ControlError(f"background {file} is not a picture that can be read; use a PNG or JPEG under 64 MB")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _cover(picture: Pixels, width: int, height: int) -> Pixels:
    """Scales a picture so that it covers the frame and cuts off what is over, evenly."""
    tall, wide = picture.shape[:2]
    scale = max(width / wide, height / tall)
    size = max(width, round(wide * scale)), max(height, round(tall * scale))
    picture = np.asarray(
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8
    )
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


class Composer:
    """Makes camera frames of one size, which never changes: clients of a camera do not survive that.

    One thread at a time.
    """

    def __init__(self, width: int = 1280, height: int = 720) -> None:
        self.width, self.height = width, height
        self._background: Background | None = None
        self._behind: Pixels = np.zeros((height, width, 3), np.uint8)
        self._easel = _Easel()

    def prepare(self, background: Background) -> None:
        """Loads a background ahead of its first frame.

        Raises `ControlError` if its picture cannot be read; then the old one stays.
        """
        if background != self._background:
            self._behind = load_background(background, self.width, self.height)
            self._background = background

    def compose(self, rgba: Pixels, background: Background, framing: Framing, mirror: bool = False) -> Pixels:
        """Premultiplied [S, S, 4] -> RGB [height, width, 3] uint8, new each time. Errors as `prepare`.

        At zoom 1 the bust is as high as the frame, stands on its lower edge and in its middle. In a frame wider than the
        bust it stands a little lower, so that shoulders that reach the picture's sides do not end in mid-air.
        """
        self.prepare(background)
        frame = self._behind.copy()
        side = max(8, round(self.height * framing.zoom))
        left = round((self.width - side) / 2 + framing.offset_x * self.height)
        sunk = _SUNK_SHARE * side if side < self.width else 0.0
        top = round(self.height - side + sunk - framing.offset_y * self.height)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, self.width), min(top + side, self.height)
        if x0 < x1 and y0 < y1:
            bust = self._easel.enlarge(rgba, side, x0 - left, y0 - top, x1 - x0, y1 - y0)
            self._easel.over(bust, frame[y0:y1, x0:x1])
        return np.asarray(cv2.flip(frame, 1), np.uint8) if mirror else frame


class _Easel:
    """Enlarges the bust and lays it over what is behind, in buffers that stay: fresh memory costs more than the work."""

    def __init__(self) -> None:
        self._buffers: dict[str, Pixels] = {}

    def _buffer(self, name: str, height: int, width: int, channels: int) -> Pixels:
        shape = (height, width, channels) if channels > 1 else (height, width)
        if name not in self._buffers or self._buffers[name].shape != shape:
            self._buffers[name] = np.empty(shape, np.uint8)
        return self._buffers[name]

    def enlarge(self, rgba: Pixels, side: int, x: int, y: int, width: int, height: int) -> Pixels:
        """The rectangle (x, y, width, height) of the bust scaled to `side` pixels."""
        size = rgba.shape[0]
        if width * height > 0.6 * side * side:  # enlarging all and cutting is quicker than looking up every pixel
            if side != size:
                mode = cv2.INTER_LINEAR if side > size else cv2.INTER_AREA
                whole = self._buffer("bust", side, side, 4)
                cv2.resize(rgba, (side, side), dst=whole, interpolation=mode)
                rgba = whole
            return rgba[y : y + height, x : x + width]
        step = size / side
        looks = np.array([[step, 0, (x + 0.5) * step - 0.5], [0, step, (y + 0.5) * step - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        part = self._buffer("bust", height, width, 4)
        cv2.warpAffine(rgba, looks, (width, height), dst=part, flags=flags, borderMode=cv2.BORDER_CONSTANT)
        return part

    def over(self, bust: Pixels, behind: Pixels) -> None:
        """Premultiplied RGBA over RGB, in place: colour + (1 - alpha) * behind."""
        height, width = behind.shape[:2]
        empty = self._buffer("empty", height, width, 1)
        uncovered, colour = (self._buffer(name, height, width, 3) for name in ("uncovered", "colour"))
        cv2.extractChannel(bust, 3, dst=empty)
        cv2.bitwise_not(empty, dst=empty)
        cv2.cvtColor(empty, cv2.COLOR_GRAY2RGB, dst=uncovered)
        cv2.multiply(behind, uncovered, dst=uncovered, scale=1 / 255)
        cv2.cvtColor(bust, cv2.COLOR_RGBA2RGB, dst=colour)
        cv2.add(colour, uncovered, dst=behind)
