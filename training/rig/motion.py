"""Head, eyes and lids in motion: nods on stress, posture, breath, saccades and blinks, at human rates."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from training.data.clip import EMOTIONS, FPS, RATE, Phone
from training.rig.moods import smooth_noise
from training.rig.visemes import VOWELS, loudness
from training.rig.voices import HOP, track_pitch

DEGREE = np.pi / 180
LIMIT = np.array([30.0, 20.0, 20.0]) * DEGREE  # the head never turns further
BLINK_MEAN_S = 3.8  # between blinks: about 20 a minute with the doubles and those that go with a glance
# mean yaw, pitch, roll in degrees, and liveliness, of each emotion at full strength
_BEARING = {
    "anger": (0, 3, 0, 1.25), "disgust": (5, -2, 3, 0.95), "fear": (2, -3, 0, 1.0), "happy": (0, -1.5, 2, 1.3),
    "neutral": (0, 0, 0, 1.0), "sad": (0, 6, 2.5, 0.6),
}  # fmt: skip


def stress(phones: list[Phone], audio: np.ndarray, n: int) -> tuple[np.ndarray, list[float], np.ndarray]:
    """What the voice stresses: (accent [n] 0..1, times of stressed vowels in s, pitch contour [n] in octaves about its
    median). A vowel is stressed when it is louder, higher and longer than the others of the clip."""
    level = loudness(audio)
    f0 = track_pitch(audio)
    voiced = f0 > 0
    accent, peaks = np.zeros(n), []
    contour = np.zeros(n)
    if voiced.any():
        octaves = np.where(voiced, np.log2(np.maximum(f0, 1) / np.median(f0[voiced])), 0)
        weight = gaussian_filter1d(voiced.astype(float), 8) + 1e-3
        contour_hops = gaussian_filter1d(octaves, 8) / weight
        at = np.clip((np.arange(n) / FPS * RATE / HOP).astype(int), 0, len(f0) - 1)
        contour = np.clip(contour_hops[at] * np.minimum(1, weight[at] * 3), -0.8, 0.8)
    rows = []
    for name, a, b in phones:
        if name in VOWELS:
            i, j = int(a * RATE), max(int(b * RATE), int(a * RATE) + 1)
            middle = min(int((a + b) / 2 * RATE / HOP), len(f0) - 1)
            height = np.log2(f0[middle] / np.median(f0[voiced])) if voiced.any() and f0[middle] > 0 else 0.0
            rows.append(((a + b) / 2, np.log(level[i:j].mean() + 1e-4), height, np.log(b - a)))
    if len(rows) >= 3:
        table = np.array(rows)
        score = ((table[:, 1:] - table[:, 1:].mean(0)) / (table[:, 1:].std(0) + 1e-6)) @ (1.0, 0.9, 0.5)
        times = np.arange(n) / FPS
        for k in np.flatnonzero(score > np.percentile(score, 65)):
            size = float(np.clip(0.45 + 0.2 * score[k], 0.2, 1))
            accent = np.maximum(accent, size * np.exp(-(((times - table[k, 0]) / 0.11) ** 2)))
            peaks.append(float(table[k, 0]))
    return accent, peaks, contour


def _bearing(emotion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.array([_BEARING[name] for name in EMOTIONS], float)
    return emotion @ rows[:, :3] * DEGREE, 1 + emotion @ (rows[:, 3] - 1)


def _posture(rng: np.random.Generator, n: int) -> np.ndarray:
    """[n, 3] where the head settles: a home for the clip, changed every few seconds; in some clips far turns."""
    kind = rng.random()
    spread = np.array([5, 2.5, 2.5]) if kind < 0.5 else np.array([11, 6, 5]) if kind < 0.85 else np.array([20, 11, 11])
    goal = np.zeros((n, 3))
    at, place = 0, np.zeros(3)
    while at < n:
        place = 0.3 * place + rng.normal(0, 1, 3).clip(-1.6, 1.6) * spread * DEGREE
        goal[at:] = place
        at += int(rng.uniform(1.2, 4.5) * FPS)
    return gaussian_filter1d(goal, FPS * rng.uniform(0.16, 0.3), axis=0, mode="nearest")


def head(
    emotion: np.ndarray, accent: np.ndarray, peaks: list[float], contour: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(pose [n, 3] radians, shift [n, 3] cm) from mood [n, 6], stress and the pitch contour."""
    n = len(accent)
    times = np.arange(n) / FPS
    bearing, lively = _bearing(emotion)
    sway = np.stack([smooth_noise(rng, n, f) * a for f, a in ((0.45, 2.2), (0.55, 1.4), (0.4, 1.5))], 1) * DEGREE
    tremble = np.stack([smooth_noise(rng, n, 4.5) * 0.12 for _ in range(3)], 1) * DEGREE
    pose = _posture(rng, n) + bearing + (sway + tremble) * lively[:, None]
    nods = np.zeros((n, 3))
    for peak in peaks:  # a nod, sometimes with a turn or a tilt, that lands on the stressed vowel
        size = rng.uniform(0.8, 3.2) * np.array([rng.normal(0, 0.5), 1.0, rng.normal(0, 0.3)])
        beat = np.exp(-(((times - peak - 0.03) / 0.12) ** 2)) - 0.45 * np.exp(-(((times - peak + 0.22) / 0.14) ** 2))
        nods += beat[:, None] * size * DEGREE
    pose += nods * lively[:, None]
    pose[:, 1] -= 4.0 * DEGREE * gaussian_filter1d(contour, 2) * lively  # the head rises with the pitch
    pose = LIMIT * np.tanh(pose / LIMIT)
    shift = np.stack([smooth_noise(rng, n, f) * a for f, a in ((0.3, 0.28), (0.25, 0.14), (0.25, 0.25))], 1)
    shift[:, 0] += 2.0 * np.sin(pose[:, 0]) * rng.uniform(0, 0.6)
    shift[:, 1] += breath(rng, n) * 0.10
    return pose.astype(np.float32), shift.astype(np.float32)


def breath(rng: np.random.Generator, n: int) -> np.ndarray:
    """[n] -1..1: breathing in faster than out, 13-18 breaths a minute."""
    phase = rng.uniform(0, 1) + np.arange(n) / FPS * rng.uniform(0.22, 0.30) + 0.05 * smooth_noise(rng, n, 0.15)
    phase = phase % 1
    return np.where(phase < 0.4, -np.cos(np.pi * phase / 0.4), np.cos(np.pi * (phase - 0.4) / 0.6))


def gaze(pose: np.ndarray, emotion: np.ndarray, speaking: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[n, 2]: eyes that hold the camera against the head's turns, with micro-saccades and glances away."""
    n = len(pose)
    point = np.zeros((n, 2))
    at, away = 0.0, 0
    while at < n:
        first = int(at)
        if away == 0 and rng.random() < (0.10 if speaking[first] > 0.5 else 0.16):
            target = rng.normal(0, 1, 2) * np.array([9.0, 4.5]) + (0, 1.0 if rng.random() < 0.5 else -2.5)
            away = int(rng.integers(1, 4))
        elif away > 1:
            target = point[first - 1] / DEGREE + rng.normal(0, 1.0, 2)
            away -= 1
        else:
            target, away = rng.normal(0, 1, 2) * np.array([0.9, 0.6]), 0
        point[first:] = target * DEGREE
        at += max(rng.gamma(3.0, 0.22), 0.15) * FPS
    point[1:] = 0.75 * point[1:] + 0.25 * point[:-1]  # a saccade takes about 40 ms: one frame in between
    follow = np.stack([-pose[:, 0], pose[:, 1]], 1) * 0.85
    out = point + follow
    out[:, 1] -= 0.07 * emotion[:, EMOTIONS.index("sad")]
    limit = np.array([0.5, 0.32])
    return (limit * np.tanh(out / limit)).astype(np.float32)


def blinks(eyes: np.ndarray, emotion: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[n] 0 open .. 1 shut: gamma-spaced blinks, some double or partial, many with a large gaze shift."""
    n = len(eyes)
    times = np.arange(n) / FPS
    pace = BLINK_MEAN_S * (1 - 0.25 * emotion[:, EMOTIONS.index("fear")].mean())
    starts = []
    at = rng.uniform(-0.5, 1.0) * pace
    while at < times[-1]:
        starts.append(at)
        at += 0.28 if rng.random() < 0.07 else 0.6 + rng.gamma(2.2, (pace - 0.6) / 2.2)
    jumps = np.flatnonzero(np.abs(np.diff(eyes, axis=0)).sum(1) > 7 * DEGREE) / FPS
    starts += [t for t in jumps if rng.random() < 0.2 and all(abs(t - s) > 0.8 for s in starts)]
    lid = np.zeros(n)
    for start in starts:
        depth = rng.uniform(0.55, 0.85) if rng.random() < 0.08 else 1.0
        held = rng.uniform(0.02, 0.05)
        closing, opening = rng.uniform(0.05, 0.07), rng.uniform(0.09, 0.13)
        before, after = np.maximum(start - times, 0) / closing, np.maximum(times - start - held, 0) / opening
        lid = np.maximum(lid, depth * np.exp(-(before**2) - after**2))
    return np.where(lid < 0.02, 0, lid).astype(np.float32)
