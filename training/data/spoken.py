"""Clips as the talker learns from them: crops of sound with expression, aperture and closures beside every frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import soxr
from numpy.typing import NDArray

from training.data.augment import RATE, SPEECH_LEVEL, no_speech, spoil
from training.data.clip import Clip
from training.data.sound import Utterance, utterance

FPS = 30
HOP_SAMPLES = 160
LABIAL = frozenset({"M", "B", "P"})
PARTED = 0.002
"""Aperture over which lips are apart; truth is cut off at 0."""
QUIET_S = 0.25
"""A pause must last this long on both sides of a frame before the frame counts as silence."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class SpokenClip:
    """Sound and truth of one clip in memory; `n` frames at 30 fps."""

    name: str
    voice: str
    sound: Utterance
    expression: Array  # [n, 60]
    emotion: Array  # [n, 6]
    aperture: Array  # [n]
    closed: Array  # [n] 1 within M, B, P
    quiet: Array  # [n] 1 far from any speech
    phones: tuple[tuple[str, float, float], ...]

    @property
    def frames(self) -> int:
        return len(self.aperture)


def load_clip(clip: Clip) -> SpokenClip:
    samples, truth = clip.audio(), clip.truth()
    phones = tuple((str(name), float(a), float(b)) for name, a, b in clip.info.phones)
    times = np.arange(clip.info.frames) / FPS
    closed, loud = np.zeros(len(times), np.float32), np.zeros(len(times), bool)
    for name, start, end in phones:
        if name in LABIAL:
            closed[(times >= start - 0.01) & (times <= max(end, start + 1 / FPS))] = 1.0
        if name != "sil":
            loud |= (times > start - QUIET_S) & (times < end + QUIET_S)
    return SpokenClip(
        name=clip.info.id,
        voice=clip.info.voice,
        sound=utterance(clip.info.id, samples),
        expression=truth.expression,
        emotion=truth.emotion,
        aperture=truth.aperture,
        closed=closed,
        quiet=(~loud).astype(np.float32),
        phones=phones,
    )


@dataclass(frozen=True)
class Lips:
    """Aperture as a linear function of the weights, and the face at rest as one of the emotion; learned from clips."""

    gap: Array  # [60]
    rest: float
    spread: float  # standard deviation of the aperture
    fit: float  # share of the aperture's variance explained
    quiet_face: Array  # [7, 60]: rows of the six emotions, then the constant

    def aperture(self, expression: Array) -> Array:
        return expression @ self.gap + self.rest

    def silence(self, emotion: Array) -> Array:
        """`[n, 6] -> [n, 60]`: the face that listens."""
        return (np.c_[emotion, np.ones(len(emotion))] @ self.quiet_face).astype(np.float32)


def learn_lips(clips: Sequence[SpokenClip]) -> Lips:
    """Least squares over the frames with parted lips, lightly ridged so that weights that never move get no say."""
    expression = np.concatenate([clip.expression for clip in clips]).astype(np.float64)
    aperture = np.concatenate([clip.aperture for clip in clips]).astype(np.float64)
    parted = aperture > PARTED
    x, y = np.c_[expression, np.ones(len(expression))][parted], aperture[parted]
    solved = _ridge(x, y[:, None])[:, 0]
    left = y - x @ solved
    quiet = np.concatenate([clip.quiet for clip in clips]) > 0
    emotion = np.concatenate([clip.emotion for clip in clips]).astype(np.float64)[quiet]
    face = _ridge(np.c_[emotion, np.ones(len(emotion))], expression[quiet])
    return Lips(
        gap=solved[:-1].astype(np.float32),
        rest=float(solved[-1]),
        spread=float(aperture.std()),
        fit=float(1.0 - left.var() / y.var()),
        quiet_face=face.astype(np.float32),
    )


def pressed(clip: SpokenClip, lips: Lips) -> SpokenClip:
    """The clip with an aperture that goes below 0 where lips press: truth stops at 0, but learning needs the margin."""
    below = np.minimum(lips.aperture(clip.expression), 0.0)
    return replace(clip, aperture=np.where(clip.aperture > PARTED, clip.aperture, below).astype(np.float32))


def _ridge(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.solve(x.T @ x + 1e-5 * len(x) * np.eye(x.shape[1]), x.T @ y)


@dataclass(frozen=True)
class Crop:
    """`frames` frames and the sound up to the look-ahead behind the last of them."""

    samples: Array  # [160 * hops]
    expression: Array  # [frames, 60]
    emotion: Array  # [frames, 6]
    aperture: Array  # [frames]
    closed: Array  # [frames]
    name: str


def hops_of(frames: int, lookahead_hops: int) -> int:
    """Context hops that `frames` frames need, the look-ahead included."""
    return frames * 100 // FPS + lookahead_hops


@dataclass(frozen=True)
class CropPlan:
    """What crops look like: length, look-ahead, and the shares of pieces without speech and of crops left clean."""

    frames: int = 96  # a multiple of 3: 3 frames are 10 hops
    lookahead_hops: int = 8
    quiet_share: float = 0.12
    clean_share: float = 0.2


def draw_crop(clips: Sequence[SpokenClip], lips: Lips, plan: CropPlan, rng: np.random.Generator) -> Crop:
    """One crop of one or two pieces, spoiled as a whole: two teach the encoder to forget the speaker before."""
    frames = plan.frames
    first = frames if rng.random() < 0.6 else 3 * int(rng.integers(frames // 12, frames // 4))
    sizes = [first] if first == frames else [first, frames - first]
    pieces = []
    for index, size in enumerate(sizes):
        samples = hops_of(size, plan.lookahead_hops if index == len(sizes) - 1 else 0) * HOP_SAMPLES
        clip = clips[int(rng.integers(len(clips)))]
        make = _quiet_piece if rng.random() < plan.quiet_share else _speech_piece
        pieces.append(make(clip, lips, size, samples, rng))
    joined = [np.concatenate([piece[k] for piece in pieces]) for k in range(5)]
    return Crop(
        spoil(joined[0], rng, plan.clean_share), *joined[1:], name=" + ".join(str(piece[5]) for piece in pieces)
    )


def _speech_piece(clip: SpokenClip, lips: Lips, frames: int, samples: int, rng: np.random.Generator):
    # speed moves pitch and formants too: another throat; the clips bring their own changes of rate
    speed = float(np.exp(rng.uniform(-0.14, 0.14)))
    last = max(clip.frames - int(frames * speed), 0)
    start = 3 * int(rng.integers(0, last // 3 + 1))
    sound = clip.sound.cut(start * RATE // FPS, round(samples * speed) + 64)
    sound = soxr.resample(sound, RATE * speed, RATE, "MQ")[:samples]
    sound = np.pad(sound, (0, samples - len(sound))) * np.float32(SPEECH_LEVEL / clip.sound.loudness)
    at = np.clip(start + np.arange(frames) * speed, 0, clip.frames - 1)
    low = np.minimum(at.astype(int), clip.frames - 2)
    part = (at - low).astype(np.float32)

    def read(curve: Array) -> Array:
        share = part.reshape(-1, *([1] * (curve.ndim - 1)))
        return (1 - share) * curve[low] + share * curve[low + 1]

    truth = (read(clip.expression), read(clip.emotion), read(clip.aperture), read(clip.closed))
    return sound.astype(np.float32), *truth, clip.name


def _quiet_piece(clip: SpokenClip, lips: Lips, frames: int, samples: int, rng: np.random.Generator):
    mood = clip.emotion[int(rng.integers(clip.frames))] * np.ones((frames, 1), np.float32)
    face = lips.silence(mood)
    nothing = np.zeros(frames, np.float32)
    return no_speech(samples, rng), face, mood, lips.aperture(face), nothing, f"no speech ({clip.name})"


def draw_batch(clips: Sequence[SpokenClip], lips: Lips, size: int, plan: CropPlan, seed: Iterable[int]) -> list[Crop]:
    """A batch that depends on nothing but its arguments."""
    rng = np.random.default_rng(list(seed))
    return [draw_crop(clips, lips, plan, rng) for _ in range(size)]
