"""Frames of a film on their way: heard, then decoded, then drawn, in order and several at once.

A head moves steadily, and where its stills go is half of a decoder's work: most frames take that from between two heads that
were drawn whole, fewer where the head changes its speed. So they do with eyes that rest. How far this may be off is set
here; where frames were asked for as pictures, every one is decoded whole.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.decoder import Part, between
from engine.film_files import Drawn
from engine.idle import Motion

Layers = dict[str, NDArray[np.float32]]
Decode = Callable[[NDArray[np.float32], Motion, Part], Layers]
Draw = Callable[[int, Layers], Drawn]

_STRIDE = 8  # frames from one whole frame to the next, at most; a power of 2
_LAG = 2 * _STRIDE  # frames that are decoded ahead of the drawing, and drawn ahead of the film
_STEADY_RAD, _STEADY_CM = 0.003, 0.022  # how far a head may stand from the line between two: a third of a pixel
_RESTING = (
    0.02  # radians of gaze and share of a blink: over four frames the eyes' patch is then right to 45 dB or better
)
_REST = 4  # frames from one pair of eyes to the next that is drawn, at most


def _off_line(motions: Sequence[Motion], name: str) -> float:
    """How far one motion strays from the straight and even way from the first to the last."""
    path = np.stack([np.atleast_1d(getattr(motion, name)) for motion in motions])
    share = np.linspace(0, 1, len(motions), dtype=np.float32)[:, None]
    return float(np.abs(path - (1 - share) * path[0] - share * path[-1]).max())


def _steady(motions: Sequence[Motion]) -> bool:
    """Whether the head goes straight and evenly from the first to the last."""
    return _off_line(motions, "pose") <= _STEADY_RAD and _off_line(motions, "shift") <= _STEADY_CM


def _resting(motions: Sequence[Motion]) -> bool:
    """Whether the eyes neither look elsewhere nor blink from the first to the last."""
    first, last = motions[0], motions[-1]
    turned, blinked = np.abs(last.gaze - first.gaze).max(), np.abs(last.blink - first.blink).max()
    strayed = max(_off_line(motions, "gaze"), _off_line(motions, "blink"))
    return bool(max(turned, blinked, strayed) <= _RESTING)


@dataclass(frozen=True)
class _Between:
    """Two frames that have what another one lacks, which is `share` of the way from the first to the second."""

    before: Future[Layers]
    after: Future[Layers]
    share: float


@dataclass(frozen=True)
class _Decoding:
    """Layers of a frame on their way, and where to take from what they lack."""

    layers: Future[Layers]
    sources: tuple[_Between, ...] = ()

    def result(self) -> Layers:
        layers = self.layers.result()
        for source in self.sources:
            layers = between(layers, source.before.result(), source.after.result(), source.share)
        return layers


class Line:
    """`decode` and `draw` run in the pool's threads. With `exact` every frame is decoded whole."""

    def __init__(self, pool: ThreadPoolExecutor, decode: Decode, draw: Draw, exact: bool) -> None:
        self._pool, self._decode, self._draw, self._exact = pool, decode, draw, exact
        self._waiting: list[tuple[NDArray[np.float32], Motion]] = []  # from the last whole frame on
        self._last: Future[Layers] | None = None
        self._decoding: deque[_Decoding] = deque()
        self._drawing: deque[Future[Drawn]] = deque()
        self._frame = 0

    def push(self, contexts: NDArray[np.float32], motion: Motion) -> Iterator[Drawn]:
        """Takes the next frame; yields those that are drawn."""
        self._waiting.append((contexts, motion))
        if self._last is None:
            self._last = self._whole(0)
        elif len(self._waiting) > _STRIDE:
            self._last = self._stride(0, _STRIDE, self._last)
            del self._waiting[:_STRIDE]
        yield from self._advance(_LAG)

    def rest(self) -> Iterator[Drawn]:
        """Yields all other frames."""
        for i in range(1, len(self._waiting)):
            self._whole(i)
        yield from self._advance(0)

    def cancel(self) -> None:
        """Lets go of what is not begun yet."""
        for decoding in self._decoding:
            decoding.layers.cancel()
        for drawing in self._drawing:
            drawing.cancel()

    def _send(self, index: int, part: Part) -> Future[Layers]:
        return self._pool.submit(self._decode, *self._waiting[index], part)

    def _whole(self, index: int) -> Future[Layers]:
        layers = self._send(index, "whole")
        self._decoding.append(_Decoding(layers))
        return layers

    def _stride(self, start: int, frames: int, first: Future[Layers]) -> Future[Layers]:
        """Sends the frames after `start` to be decoded: the last one whole, those on the way between two heads where the
        head is steady; where it is not, in two strides half as long. Returns the last one.
        """
        if frames == 1:
            return self._whole(start + 1)
        motions = [motion for _, motion in self._waiting[start : start + frames + 1]]
        if self._exact or not _steady(motions):
            middle = self._stride(start, frames // 2, first)
            return self._stride(start + frames // 2, frames // 2, middle)
        last, before, step = self._send(start + frames, "whole"), first, min(_REST, frames)
        for at in range(0, frames, step):
            end = at + step
            after = last if end == frames else self._send(start + end, "face")
            part: Part = "eyeless" if _resting(motions[at : end + 1]) else "face"
            for i in range(1, step):
                sources = _Between(before, after, i / step), _Between(first, last, (at + i) / frames)
                self._decoding.append(_Decoding(self._send(start + at + i, part), sources))
            whole = () if after is last else (_Between(first, last, end / frames),)
            self._decoding.append(_Decoding(after, whole))
            before = after
        return last

    def _advance(self, lag: int) -> Iterator[Drawn]:
        while len(self._decoding) > lag:
            decoding = self._decoding.popleft()
            self._drawing.append(self._pool.submit(self._drawn, self._frame, decoding))
            self._frame += 1
        while len(self._drawing) > lag:
            yield self._drawing.popleft().result()

    def _drawn(self, frame: int, decoding: _Decoding) -> Drawn:
        return self._draw(frame, decoding.result())
