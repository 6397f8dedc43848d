"""`python -m training.rig.measure CORPUS`: is the truth true? Lips against sound, closures against phones, human rates.

Works on any corpus in the clip format that has phones. Figures are pooled over all clips: single clips scatter.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from scipy.stats import rankdata

from training.data.clip import FPS, RATE, Clip, ClipError, Corpus, Split, Truth
from training.rig.visemes import PHONE_VISEMES, VOWELS

FURTHEST_LAG = 12  # frames
FLOOR_DB = -60.0
SHUT = 0.004  # aperture, in eye distances, at which the lips count as closed
BILABIAL = ("M", "B", "P")
CONSONANTS = frozenset(PHONE_VISEMES) - VOWELS - {"sil"}


def log_envelope(audio: np.ndarray, frames: int) -> np.ndarray:
    """[samples] -> [frames] level in dB around each frame's instant k / 30 s, floored at -60 dB."""
    power = np.cumsum(np.concatenate([[0.0], np.asarray(audio, np.float64) ** 2]))
    centre = (np.arange(frames) * RATE / FPS).astype(int)
    a, b = np.maximum(centre - RATE // 60, 0), np.minimum(centre + RATE // 60, len(audio))
    return np.maximum(10 * np.log10((power[b] - power[a]) / np.maximum(b - a, 1) + 1e-12), FLOOR_DB)


class LagMeter:
    """Pools the correlation of lip aperture with the log envelope over clips, per lag."""

    def __init__(self) -> None:
        self.products = np.zeros(2 * FURTHEST_LAG + 1)
        self.lips_energy = np.zeros_like(self.products)
        self.sound_energy = np.zeros_like(self.products)

    def add(self, aperture: np.ndarray, envelope: np.ndarray) -> None:
        """aperture, envelope: [n], the same frames."""
        lips, sound = aperture - aperture.mean(), envelope - envelope.mean()
        n = len(lips)
        for k, lag in enumerate(range(-FURTHEST_LAG, FURTHEST_LAG + 1)):  # lips at t + lag against the sound at t
            a, b = max(0, -lag), min(n, n - lag)
            if b - a < 2:
                continue
            x, y = lips[a + lag : b + lag], sound[a:b]
            self.products[k] += x @ y
            self.lips_energy[k] += x @ x
            self.sound_energy[k] += y @ y

    def correlations(self) -> np.ndarray:
        return self.products / np.sqrt(self.lips_energy * self.sound_energy + 1e-12)

    def peak(self) -> tuple[float, float]:
        """(lag in frames, below 0: the lips are early; correlation there), refined by a parabola."""
        curve = self.correlations()
        k = int(curve.argmax())
        if 0 < k < len(curve) - 1:
            left, top, right = curve[k - 1 : k + 2]
            k = k + 0.5 * (left - right) / (left - 2 * top + right - 1e-12)
        return float(k - FURTHEST_LAG), float(curve.max())


def auc(low: np.ndarray, high: np.ndarray) -> float:
    """Chance that a value of `low` is below one of `high`, ties counted half."""
    if not len(low) or not len(high):
        return float("nan")
    ranks = rankdata(np.concatenate([low, high]))
    return float(1 - (ranks[: len(low)].sum() - len(low) * (len(low) + 1) / 2) / (len(low) * len(high)))


def least_apertures(clip: Clip, truth: Truth) -> Iterable[tuple[str, float]]:
    """(consonant, least aperture within it) for every consonant that a frame falls into."""
    for k, (name, _, _) in enumerate(clip.info.phones):
        inside = truth.phone == k
        if name in CONSONANTS and inside.any():
            yield name, float(truth.aperture[inside].min())


def closure_misses(clip: Clip, truth: Truth) -> Iterable[float]:
    """For every M, B and P: frames between the phone and the nearest frame with shut lips, 0 when inside."""
    shut = np.flatnonzero(truth.aperture < SHUT) / FPS
    for name, a, b in clip.info.phones:
        if name in BILABIAL:
            distance = np.maximum(np.maximum(a - shut, shut - b), 0) * FPS
            yield float(distance.min()) if len(shut) else float("inf")


def blink_count(blink: np.ndarray) -> int:
    """How often the lids come down by more than half."""
    down = blink > 0.5
    return int((down[1:] & ~down[:-1]).sum() + (down[:1].sum()))


@dataclass
class Figures:
    """What the command prints."""

    clips: int = 0
    minutes: float = 0.0
    real_voice_share: float = 0.0
    people: int = 0
    voices: int = 0
    lag_frames: float = 0.0
    lag_correlation: float = 0.0
    auc_closures: float = 0.0
    closures: int = 0
    closures_within_a_frame: float = 0.0
    blinks_a_minute: float = 0.0
    shut_in_silence: float = 0.0
    pose_5_95_degrees: dict[str, tuple[float, float]] = field(default_factory=dict)
    pose_reach_degrees: dict[str, tuple[float, float]] = field(default_factory=dict)


def measure(clips: Iterable[Clip]) -> Figures:
    """Reads every clip once. Raises ClipError when there is none or one cannot be read."""
    meter, found = LagMeter(), Figures()
    lows, highs, misses, poses, rest = [], [], [], [], []
    people, voices, frames, real, blinks = set(), set(), 0, 0, 0
    for clip in clips:
        truth = clip.truth()
        found.clips += 1
        frames += clip.info.frames
        real += clip.info.frames * clip.info.real_voice
        people.add(clip.info.person)
        voices.add(clip.info.voice)
        meter.add(truth.aperture, log_envelope(clip.audio(), clip.info.frames))
        for name, least in least_apertures(clip, truth):
            (lows if name in BILABIAL else highs).append(least)
        misses += closure_misses(clip, truth)
        blinks += blink_count(truth.blink)
        poses.append(np.degrees(truth.pose))
        rest.append(truth.aperture[_silent(clip, truth)])
    if not found.clips:
        raise ClipError("no clips to measure")
    found.minutes = frames / FPS / 60
    found.real_voice_share = real / frames
    found.people, found.voices = len(people), len(voices)
    found.lag_frames, found.lag_correlation = meter.peak()
    found.auc_closures = auc(np.array(lows), np.array(highs))
    found.closures = len(misses)
    found.closures_within_a_frame = float(np.mean(np.array(misses) <= 1.0)) if misses else float("nan")
    found.blinks_a_minute = blinks / found.minutes
    found.shut_in_silence = float(np.mean(np.concatenate(rest) < 0.02))
    pose = np.concatenate(poses)
    for k, name in enumerate(("yaw", "pitch", "roll")):
        low, high = np.percentile(pose[:, k], (5, 95))
        found.pose_5_95_degrees[name] = (round(float(low), 1), round(float(high), 1))
        found.pose_reach_degrees[name] = (round(float(pose[:, k].min()), 1), round(float(pose[:, k].max()), 1))
    return found


def _silent(clip: Clip, truth: Truth) -> np.ndarray:
    """[n] frames well inside a pause: more than 0.25 s from any speech sound."""
    silent = np.array([name == "sil" for name, _, _ in clip.info.phones] + [True])[truth.phone]
    near = np.convolve(~silent, np.ones(17), "same") > 0
    return ~near


@dataclass(frozen=True)
class Options:
    """Prints what a corpus measures."""

    corpus: Annotated[Path, tyro.conf.Positional]
    split: Split | None = None
    """Only this split."""
    real: bool = False
    """Only clips with a real human voice."""


def main(options: Options) -> int:
    try:
        corpus = Corpus(options.corpus)
        clips = corpus.split(options.split) if options.split else list(corpus)
        figures = measure(c for c in clips if c.info.real_voice or not options.real)
    except ClipError as error:
        print(f"measure: {error}", file=sys.stderr)
        return 2
    for name, value in asdict(figures).items():
        print(f"{name.replace('_', ' '):26} {round(value, 3) if isinstance(value, float) else value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
