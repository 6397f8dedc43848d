"""Speech in memory: reads any sound file to 16 kHz mono and keeps the lot as 16-bit samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16000
SUFFIXES = frozenset({".opus", ".flac", ".wav", ".mp3", ".ogg", ".m4a"})

Samples = NDArray[np.float32]


class SoundError(ValueError):
    """A sound file that cannot be used; the message names the file and the reason."""


def read_sound(path: Path) -> Samples:
    """Whole file as `[n] float32` in -1..1, 16 kHz mono. Raises SoundError where there is no sound to be had."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    blocks = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(audio=0):
                blocks += [out.to_ndarray()[0] for out in resampler.resample(frame)]
        blocks += [out.to_ndarray()[0] for out in resampler.resample(None)]
    except (av.FFmpegError, IndexError, OSError) as error:
        raise SoundError(f"{path}: expected a sound file that FFmpeg reads, found: {error}") from error
    if not blocks or not sum(len(block) for block in blocks):
        raise SoundError(f"{path}: holds no sound")
    return np.concatenate(blocks).astype(np.float32)


@dataclass(frozen=True)
class Utterance:
    """One recording; `samples` are int16, so that an hour of speech costs 115 MB."""

    name: str
    samples: NDArray[np.int16]
    loudness: float = 1.0  # root mean square of what is spoken

    def cut(self, start: int, length: int) -> Samples:
        """`[length] float32` in -1..1 from sample `start`; what lies outside the recording is silence."""
        out = np.zeros(length, np.float32)
        first, last = max(start, 0), min(start + length, len(self.samples))
        if last > first:
            out[first - start : last - start] = self.samples[first:last].astype(np.float32) / 32768.0
        return out


def loudness(samples: Samples) -> float:
    """Root mean square of the louder half of a recording, in blocks of 20 ms: pauses do not count."""
    blocks = samples[: max(len(samples) // 320, 1) * 320]
    powers = np.sort(np.square(blocks[: len(blocks) // 320 * 320].reshape(-1, 320), dtype=np.float64).mean(1))
    return float(np.sqrt(powers[len(powers) // 2 :].mean() + 1e-10)) if len(powers) else 1e-5


def to_int16(samples: Samples) -> NDArray[np.int16]:
    return np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)


def find_sounds(folders: Iterable[Path], leave_out: Iterable[str] = ()) -> list[Path]:
    """Sound files under `folders`, sorted; names that begin with a `leave_out` (held-out sentences) are dropped."""
    prefixes = tuple(leave_out)
    paths = []
    for folder in folders:
        if not folder.is_dir():
            raise SoundError(f"{folder}: expected a folder with sound files, found none")
        paths += [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(prefixes)]
    return sorted(paths)


def utterance(name: str, samples: Samples) -> Utterance:
    return Utterance(name, to_int16(samples), loudness(samples))


def load_speech(paths: Iterable[Path]) -> list[Utterance]:
    return [utterance(str(path), read_sound(path)) for path in paths]
