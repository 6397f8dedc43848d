"""Speech from any sound or video file: decoded by PyAV, brought to 16 kHz mono by soxr, in stream time.

Source: PyAV (FFmpeg) decoding; soxr streaming resampler, quality HQ.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import soxr
from av.error import FFmpegError
from numpy.typing import NDArray

from engine.errors import AudioError
from engine.manifest import RATE

Array = NDArray[np.float32]
LONGEST_SECONDS = 12 * 3600
WHOLE_SECONDS = 3600
_HOLE_SECONDS, _HOLE_MOST_SECONDS = 0.05, 600.0


class SpeechFile:
    """A sound track, opened. `rate` and `channels` are the file's own; `seconds` is what the file says, None if it
    does not.

    Raises `AudioError` at construction for a file that is missing, corrupt, without sound, or over twelve hours.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise AudioError(f"{self.path}: no such file")
        try:
            self._container = av.open(str(self.path), metadata_errors="ignore")
        except (FFmpegError, OSError, ValueError) as error:
            raise AudioError(f"{self.path} is not a sound or video file that can be read ({_reason(error)})") from None
        if not self._container.streams.audio:
            self._container.close()
            raise AudioError(f"{self.path} has no sound track; give a file with speech")
        self._stream = self._container.streams.audio[0]
        self.rate, self.channels = int(self._stream.rate or 0), int(self._stream.channels or 0)
        duration, base = self._stream.duration, self._stream.time_base
        self.seconds: float | None = None
        if duration and base:
            self.seconds = float(duration * base)
        elif self._container.duration:
            self.seconds = self._container.duration / av.time_base
        if self.rate <= 0 or self.channels <= 0 or (self.seconds or 0) > LONGEST_SECONDS:
            found = f"{self.rate} Hz, {self.channels} channels, {self.seconds or 0:.0f} s"
            self.close()
            raise AudioError(f"{self.path}: expected sound of at most {LONGEST_SECONDS // 3600} hours, found {found}")

    def blocks(self) -> Iterator[Array]:
        """Yields [n, channels] float32 in -1..1 at the file's own rate, once. Holes in the time stamps become silence.

        A damaged packet is left out; raises `AudioError` if nothing could be decoded.
        """
        convert = av.AudioResampler(format="fltp", layout=self._stream.layout, rate=self.rate)
        position, damaged = 0, ""
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except FFmpegError as error:
                damaged = _reason(error)
                continue
            for frame in frames:
                hole = self._hole(frame, position)
                position += hole
                for start in range(0, hole, self.rate):
                    yield np.zeros((min(hole - start, self.rate), self.channels), np.float32)
                for part in convert.resample(frame):
                    block = np.nan_to_num(part.to_ndarray().T).clip(-1, 1).astype(np.float32)
                    position += len(block)
                    yield block
        if position == 0:
            raise AudioError(
                f"{self.path}: no sound could be decoded ({damaged or 'the track is empty'}); is the file complete?"
            )
        if damaged and self.seconds and position / self.rate < self.seconds / 2:
            raise AudioError(f"{self.path}: most of it could not be decoded ({damaged}); is the file complete?")

    def _hole(self, frame: av.AudioFrame, position: int) -> int:
        """Samples that are missing before this frame, by its time stamp."""
        if frame.pts is None or frame.time_base is None or frame.sample_rate != self.rate:
            return 0
        start = self._stream.start_time or 0
        missing = float((frame.pts - start) * frame.time_base) - position / self.rate
        return round(missing * self.rate) if _HOLE_SECONDS < missing < _HOLE_MOST_SECONDS else 0

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> "SpeechFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SpeechResampler:
    """Blocks of any rate and channels become the engine's 16 kHz mono, without loss at the seams."""

    def __init__(self, rate: int) -> None:
        self._stream = None if rate == RATE else soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality="HQ")

    def push(self, block: Array, last: bool = False) -> Array:
        """`block [n, channels]` -> the samples [m] float32 that are ready; `last` drains the filter."""
        mono = np.ascontiguousarray(block.mean(axis=1, dtype=np.float32))
        if self._stream is None:
            return mono
        return np.asarray(self._stream.resample_chunk(mono, last=last), np.float32).clip(-1, 1)


def read_speech(path: str | Path, limit_seconds: float = WHOLE_SECONDS) -> Array:
    """All of a file's sound as 16 kHz mono float32 [n]. Raises `AudioError`, also for more than `limit_seconds`."""
    with SpeechFile(path) as file:
        resampler = SpeechResampler(file.rate)
        parts: list[Array] = []
        count = 0
        for block in file.blocks():
            parts.append(resampler.push(block))
            count += len(parts[-1])
            if count > limit_seconds * RATE:
                raise AudioError(f"{path} is longer than {limit_seconds / 60:.0f} minutes; cut it first")
        parts.append(resampler.push(np.zeros((0, 1), np.float32), last=True))
    return np.concatenate(parts)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
