"""A performance: speech and a script of moods -> everything the face does, frame by frame. Seeded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from training.data.clip import FPS, RATE, Phone
from training.rig import motion
from training.rig.expressions import INDEX
from training.rig.landmarks import CLOSED_CM, CROSSED_CM, LandmarkModel
from training.rig.moods import Script, effort, mood, under_speech
from training.rig.visemes import MouthTrack, mouth_track

CONSONANT_GAP_CM = 0.16  # a consonant that is no closure keeps the lips at least this far apart
TEETH_GAP_CM = 0.10
WIDE_CM = 9.0


@dataclass(frozen=True)
class Performance:
    """Per frame `n`, shapes and units of docs/formats.md; expression without blink and without gaze's lids."""

    expression: np.ndarray  # [n, 60]
    pose: np.ndarray  # [n, 3]
    shift: np.ndarray  # [n, 3]
    gaze: np.ndarray  # [n, 2]
    blink: np.ndarray  # [n]
    emotion: np.ndarray  # [n, 6]
    intensity: np.ndarray  # [n]
    phone: np.ndarray  # [n] int16
    closure: np.ndarray  # [n] 0..1, lips shut for M B P


def frame_count(audio: np.ndarray) -> int:
    """Frames that are due within the sound: frame k is due at k / 30 s."""
    return len(audio) * FPS // RATE


def perform(phones: list[Phone], audio: np.ndarray, script: Script, face: LandmarkModel, seed: int) -> Performance:
    """Plays the script to the speech with this person's face; the same arguments give the same frames."""
    n = frame_count(audio)
    times = np.arange(n) / FPS
    feeling, moving, looking, lids = (np.random.default_rng([seed, k]) for k in range(4))
    accent, peaks, contour = motion.stress(phones, audio, n)
    felt = mood(script, accent, feeling)
    mouth = mouth_track(phones, audio, 0.88 * effort(felt.emotion.mean(0)) * feeling.normal(1, 0.05)).at(times)
    expression = mouth.weights + under_speech(felt.face, mouth.speaking, mouth.closure)
    _emphasise(expression, accent, felt.emotion, feeling)
    _breathe_in(expression, mouth.speaking)
    expression = _set_lips(np.clip(expression, -0.4, 1.6), mouth, felt.emotion, face)
    pose, shift = motion.head(felt.emotion, accent, peaks, contour, moving)
    gaze = motion.gaze(pose, felt.emotion, mouth.speaking, looking)
    return Performance(
        expression=expression.astype(np.float32),
        pose=pose,
        shift=shift,
        gaze=gaze,
        blink=motion.blinks(gaze, felt.emotion, lids),
        emotion=felt.emotion,
        intensity=np.clip(felt.emotion.sum(1), 0, 1).astype(np.float32),
        phone=phone_index(phones, times),
        closure=mouth.closure.astype(np.float32),
    )


def phone_index(phones: list[Phone], times: np.ndarray) -> np.ndarray:
    """[n] int16: which phone is said at each time, -1 for none."""
    out = np.full(len(times), -1, np.int16)
    for k, (_, a, b) in enumerate(phones):
        out[(times >= a) & (times < b)] = k
    return out


def _emphasise(expression: np.ndarray, accent: np.ndarray, emotion: np.ndarray, rng: np.random.Generator) -> None:
    """Brows and lids on stressed syllables: up, or down and together in anger."""
    anger = emotion[:, 0]
    lift = accent * rng.uniform(0.12, 0.34)
    for side in ("_L", "_R"):
        mine = lift * rng.uniform(0.85, 1.15)
        expression[:, INDEX["browInnerUp" + side]] += mine * (1 - anger)
        expression[:, INDEX["browOuterUp" + side]] += 0.9 * mine * (1 - anger)
        expression[:, INDEX["browDown" + side]] += 0.8 * mine * anger
        expression[:, INDEX["eyeWide" + side]] += 0.35 * mine


def _breathe_in(expression: np.ndarray, speaking: np.ndarray) -> None:
    """A small opening just before speech that follows a pause."""
    starts = np.flatnonzero((speaking[1:] > 0.5) & (speaking[:-1] <= 0.5)) + 1
    frames = np.arange(len(speaking))
    for start in starts:
        if speaking[max(start - 10, 0) : start].max(initial=0) < 0.5:
            expression[:, INDEX["jawOpen"]] += 0.035 * np.exp(-(((frames - start + 3.5) / 2.2) ** 2))


def _set_lips(expression: np.ndarray, mouth: MouthTrack, emotion: np.ndarray, face: LandmarkModel) -> np.ndarray:
    """Shuts the lips on M B P, keeps other speech sounds visibly open, and rests them closed in silence."""
    closure, teeth, speaking = mouth.closure, mouth.teeth, mouth.speaking
    apart = gaussian_filter1d(speaking, 1.0) * (1 - closure)
    least = CONSONANT_GAP_CM * (1 - teeth) + TEETH_GAP_CM * teeth
    low = np.where(speaking > 0.9, least * apart + CLOSED_CM * (1 - apart), CROSSED_CM)
    parted = 0.25 * emotion[:, 2] + 0.12 * emotion[:, 3] + 0.05 * emotion[:, 1]  # fear, joy and disgust part the lips
    rest = 0.01 + parted
    gap = face.gap(expression)
    high = np.where(speaking < 0.999, gap * speaking + np.minimum(gap, rest) * (1 - speaking), gap)
    high = np.minimum(high, WIDE_CM)
    high = high * (1 - closure) + np.minimum(high, CLOSED_CM) * closure
    low = np.minimum(np.maximum(low, CROSSED_CM), np.maximum(high, low * (1 - closure) + CLOSED_CM * closure))
    out = face.with_gap(expression, np.full(len(gap), -WIDE_CM), high)
    return face.with_gap(out, low, np.full(len(gap), WIDE_CM))
