"""Emotion over time: a script of moods -> six weights a frame that come, live and go at human speeds.

The face does not switch: anger and fear arrive fast, sadness slowly, and all leave slower than they come. Now and
then another feeling shows for a third of a second (a micro-expression); the two halves of the face never agree fully.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from training.data.clip import EMOTIONS, FPS
from training.rig.expressions import EMOTION_WEIGHTS, EXPRESSIONS, INDEX
from training.rig.visemes import MOUTH

Script = list[tuple[float, str, float]]  # (start in seconds, emotion, intensity 0..1)

ATTACK_S = {"anger": 0.22, "disgust": 0.28, "fear": 0.14, "happy": 0.32, "neutral": 0.4, "sad": 0.6}
DECAY_S = {"anger": 0.7, "disgust": 0.5, "fear": 0.6, "happy": 0.8, "neutral": 0.4, "sad": 1.1}
NEUTRAL = EMOTIONS.index("neutral")
_BROWS_AND_LIDS = np.array([n.startswith(("brow", "eye", "nose", "cheekR", "cheekS")) for n in EXPRESSIONS])
_LEFT = np.array([n.endswith("_L") for n in EXPRESSIONS])
_RIGHT = np.array([n.endswith("_R") for n in EXPRESSIONS])
_SIDE_SPREAD = {"disgust": 0.30, "happy": 0.10, "anger": 0.15, "fear": 0.08, "sad": 0.12, "neutral": 0.0}


@dataclass(frozen=True)
class Mood:
    """Per frame: `emotion` [n, 6] weights times intensity (order EMOTIONS), `face` [n, 60] what it does to the face."""

    emotion: np.ndarray
    face: np.ndarray


def smooth_noise(rng: np.random.Generator, n: int, frequency: float, rate: float = FPS) -> np.ndarray:
    """[n] of unit variance with energy below about `frequency` Hz; its level does not hang on the clip's length."""
    sigma = rate / frequency / 3.5
    margin = int(5 * sigma) + 1
    noise = gaussian_filter1d(rng.standard_normal(n + 2 * margin), sigma)[margin : margin + n]
    return noise * np.sqrt(2 * np.sqrt(np.pi) * sigma)


def draw_script(rng: np.random.Generator, duration_s: float, emotion: str | None = None) -> Script:
    """A script for a clip: one mood with an intensity, in longer clips often a second one, sometimes a mixture."""
    first = emotion or EMOTIONS[rng.integers(len(EMOTIONS))]
    script: Script = [(0.0, first, float(np.round(rng.uniform(0.45, 1.0), 2)))]
    if duration_s > 3.5 and rng.random() < 0.4:
        other = EMOTIONS[rng.integers(len(EMOTIONS))] if rng.random() < 0.6 else first
        at = rng.uniform(0.3, 0.75) * duration_s
        script.append((float(np.round(at, 2)), other, float(np.round(rng.uniform(0.25, 1.0), 2))))
    if rng.random() < 0.15:  # two at once from the start
        script.insert(1, (0.0, EMOTIONS[rng.integers(len(EMOTIONS))], float(np.round(rng.uniform(0.2, 0.5), 2))))
    return script


def _wanted(script: Script, times: np.ndarray) -> np.ndarray:
    """[n, 6] as written: entries that start together are mixed, a later start replaces what was there."""
    out = np.zeros((len(times), len(EMOTIONS)))
    for start in sorted({s for s, _, _ in script}):
        row = np.zeros(len(EMOTIONS))
        for at, emotion, intensity in script:
            if at == start and emotion != "neutral":
                row[EMOTIONS.index(emotion)] = max(row[EMOTIONS.index(emotion)], intensity)
        out[times >= start] = row / max(row.sum(), 1.0)
    return out


def _follow(wanted: np.ndarray) -> np.ndarray:
    """Each weight runs after what is wanted: two poles, with its own attack and decay."""
    attack = np.array([1 - np.exp(-2 / FPS / ATTACK_S[e]) for e in EMOTIONS])
    decay = np.array([1 - np.exp(-2 / FPS / DECAY_S[e]) for e in EMOTIONS])
    inner, outer = wanted[0] * 0.6, wanted[0] * 0.6
    out = np.empty_like(wanted)
    for k, goal in enumerate(wanted):
        inner = inner + (goal - inner) * np.where(goal > inner, attack, decay)
        outer = outer + (inner - outer) * np.where(inner > outer, attack, decay)
        out[k] = outer
    return out


def _micro_expressions(rng: np.random.Generator, n: int) -> np.ndarray:
    """[n, 6]: about one in twelve seconds, 0.2-0.45 s long, faint."""
    out = np.zeros((n, len(EMOTIONS)))
    at = rng.exponential(12.0) * FPS
    while at < n:
        which = rng.choice([k for k in range(len(EMOTIONS)) if k != NEUTRAL])
        width = rng.uniform(0.2, 0.45) * FPS / 2.5
        out[:, which] += rng.uniform(0.12, 0.32) * np.exp(-(((np.arange(n) - at) / width) ** 2))
        at += rng.exponential(12.0) * FPS
    return out


def mood(script: Script, accent: np.ndarray, rng: np.random.Generator) -> Mood:
    """Plays the script. accent [n] 0..1: stress of the speech, which lifts the feeling with it."""
    n = len(accent)
    times = np.arange(n) / FPS
    emotion = _follow(_wanted(script, times))
    flicker = 1 + 0.10 * smooth_noise(rng, n, 0.6).clip(-1.8, 1.8)
    emotion = emotion * (flicker * (0.95 + 0.14 * accent))[:, None]
    emotion = np.clip(emotion + _micro_expressions(rng, n), 0, 1)
    emotion[:, NEUTRAL] = 0
    face = np.zeros((n, len(EXPRESSIONS)))
    for k, name in enumerate(EMOTIONS):
        if not emotion[:, k].any():
            continue
        tilt = rng.normal(0, _SIDE_SPREAD[name])
        side = 1 + np.clip(tilt, -0.4, 0.4) * (_LEFT * 1.0 - _RIGHT * 1.0)
        late = np.concatenate(
            [emotion[:1, k].repeat(2), emotion[:-2, k]]
        )  # brows and lids lead the mouth by two frames
        curve = np.where(_BROWS_AND_LIDS, emotion[:, k : k + 1], late[:, None])
        variant = 1 + rng.normal(0, 0.12, len(EXPRESSIONS))  # nobody smiles twice alike
        variant[_LEFT] = variant[_RIGHT]
        face += curve * (EMOTION_WEIGHTS[k] * side * variant)
    return Mood(emotion.astype(np.float32), face)


def under_speech(face: np.ndarray, speaking: np.ndarray, closure: np.ndarray) -> np.ndarray:
    """What is left of the mood's face while the mouth talks: half of the mouth's share, and no lips held open or
    pressed against a closure. speaking, closure [n] 0..1."""
    out = face * np.where(MOUTH, 1 - 0.5 * speaking[:, None], 1.0)
    openers = [k for k, n in enumerate(EXPRESSIONS) if n.startswith(("mouthUpperUp", "mouthLowerDown", "mouthFunnel"))]
    out[:, openers] *= (1 - closure)[:, None]
    out[:, INDEX["jawOpen"]] *= 1 - closure
    out[:, INDEX["mouthShrugLower"]] *= 1 - 0.8 * closure
    for name in ("mouthPress_L", "mouthPress_R", "mouthRollUpper", "mouthRollLower"):
        out[:, INDEX[name]] *= 1 - 0.7 * speaking
    return out


def effort(emotion: np.ndarray) -> float:
    """How far the mouth moves under a mean mood [6]: anger bites words, sadness mumbles."""
    gains = {"anger": 0.16, "disgust": -0.04, "fear": 0.04, "happy": 0.10, "neutral": 0.0, "sad": -0.2}
    return float(1 + sum(gains[name] * emotion[k] for k, name in enumerate(EMOTIONS)))
