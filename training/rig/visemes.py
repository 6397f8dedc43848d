"""Phones and loudness -> how mouth, jaw and tongue move, with coarticulation.

Every phone pulls towards its viseme with a dominance that rises before it and dies after it (Cohen and Massaro
1993, Modeling coarticulation in synthetic visual speech), separately for jaw, rounding, lips and tongue. Closures
(M B P) and teeth on lip (F V) come on top, so that they are always seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from training.data.clip import RATE, Phone
from training.rig.expressions import EXPRESSIONS, VISEME_WEIGHTS, VISEMES

TRACK_RATE = 120  # steps a second of the curves; frames are picked from them

# phone -> its visemes in order, each with its strength; two for diphthongs
PHONE_VISEMES: dict[str, tuple[tuple[str, float], ...]] = {
    "AA": (("A", 1.0),), "AE": (("A", 0.82),), "AH": (("A", 0.55),), "AO": (("O", 0.95),),
    "AW": (("A", 0.9), ("U", 0.75)),
    "AY": (("A", 0.95), ("I", 0.9)), "EH": (("E", 1.0),), "ER": (("R", 1.0),), "EY": (("E", 0.95), ("I", 1.0)),
    "IH": (("I", 0.85),), "IY": (("I", 1.0),), "OW": (("O", 0.9), ("U", 0.9)), "OY": (("O", 1.0), ("I", 0.9)),
    "UH": (("U", 0.6),), "UW": (("U", 1.0),), "B": (("MBP", 1.0),), "P": (("MBP", 1.0),), "M": (("MBP", 1.0),),
    "F": (("FV", 1.0),), "V": (("FV", 0.95),), "TH": (("TH", 1.0),), "DH": (("TH", 0.7),), "L": (("L", 1.0),),
    "N": (("T", 0.95),), "T": (("T", 1.0),), "D": (("T", 0.95),), "S": (("S", 1.0),), "Z": (("S", 0.95),),
    "SH": (("SH", 1.0),), "ZH": (("SH", 0.9),), "CH": (("SH", 1.0),), "JH": (("SH", 0.95),), "R": (("R", 1.0),),
    "W": (("U", 1.05),), "Y": (("I", 0.8),), "K": (("K", 1.0),), "G": (("K", 0.9),), "NG": (("K", 0.85),),
    "HH": (("K", 0.6),), "sil": (("sil", 1.0),),
}  # fmt: skip
VOWELS = frozenset(("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"))
BILABIAL = frozenset("MBP")
LABIODENTAL = frozenset("FV")

# dominance over (jaw, rounding, lips, tongue)
DOMINANCE = {
    "A": (1.2, 0.6, 0.8, 0.5), "E": (1.0, 0.8, 1.0, 0.5), "I": (0.9, 0.9, 1.1, 0.6), "O": (1.1, 1.5, 1.0, 0.4),
    "U": (1.0, 1.9, 1.0, 0.4), "MBP": (2.6, 0.35, 5.0, 0.3), "FV": (2.0, 0.6, 4.5, 0.3), "L": (0.5, 0.25, 0.45, 2.0),
    "TH": (0.7, 0.4, 0.7, 3.0), "S": (1.3, 0.5, 0.9, 1.0), "SH": (1.2, 1.8, 1.1, 1.0), "R": (0.7, 1.1, 0.7, 0.5),
    "K": (0.35, 0.15, 0.3, 1.0), "T": (0.55, 0.2, 0.4, 2.0), "sil": (0.8, 0.7, 0.8, 0.5),
}  # fmt: skip
BEFORE_S = (0.080, 0.120, 0.072, 0.045)  # how early each group starts to move; rounding is anticipated most
AFTER_S = (0.072, 0.080, 0.068, 0.045)
LEAD_S = 0.010  # the mouth is there a little before the sound
CLOSED_AT_LEAST_S = 0.042  # longer than a frame, so that every closure is on some frame
APPROACH_S, RELEASE_S = 0.028, 0.024

_GROUPS = np.array(
    [
        0
        if n in ("jawOpen", "mouthClose")
        else 1
        if n in ("mouthPucker", "mouthFunnel")
        else 3
        if n[:6] == "tongue"
        else 2
        for n in EXPRESSIONS
    ]
)
MOUTH = np.array([n.startswith(("mouth", "jaw", "cheekPuff")) for n in EXPRESSIONS])
_TARGET = dict(zip(VISEMES, VISEME_WEIGHTS))


@dataclass(frozen=True)
class MouthTrack:
    """Curves at TRACK_RATE over [n] steps."""

    weights: np.ndarray  # [n, 60]
    closure: np.ndarray  # [n] 0..1: lips shut for M B P
    teeth: np.ndarray  # [n] 0..1: teeth on the lip for F V
    speaking: np.ndarray  # [n] 0..1: within speech, not in a pause

    def at(self, seconds: np.ndarray) -> MouthTrack:
        """The same curves at these times."""
        pick = np.clip(np.round(seconds * TRACK_RATE).astype(int), 0, len(self.closure) - 1)
        return MouthTrack(self.weights[pick], self.closure[pick], self.teeth[pick], self.speaking[pick])


def loudness(audio: np.ndarray) -> np.ndarray:
    """[samples] -> root mean square over 25 ms around each sample."""
    power = np.cumsum(np.concatenate([[0.0], np.asarray(audio, np.float64) ** 2]))
    at = np.arange(len(audio))
    a, b = np.maximum(at - 200, 0), np.minimum(at + 200, len(audio))
    return np.sqrt((power[b] - power[a]) / 400 + 1e-9)


def _pulls(phones: list[Phone], level: np.ndarray, effort: float) -> list[tuple[str, float, float, float]]:
    """[(viseme, start, end, strength)]: loud vowels open wider, short ones fall short of their target."""
    loud = level[level > 0.01]
    reference = np.percentile(loud, 85) if len(loud) else 0.1
    out = []
    for name, start, end in phones:
        parts = PHONE_VISEMES[name]
        middle = start + (0.55 if len(parts) == 2 else 1.0) * (end - start)
        for (viseme, strength), (a, b) in zip(parts, ((start, middle), (middle, end))):
            if name in VOWELS:
                here = level[int(a * RATE) : max(int(b * RATE), int(a * RATE) + 1)]
                relative = (here.mean() if len(here) else 0) / reference
                reached = 1 - 0.5 * np.exp(-(end - start) / 0.06)
                strength *= effort * reached * float(np.clip(0.55 + 0.5 * np.sqrt(relative), 0.5, 1.2))
            out.append((viseme, a, b, strength))
    return out


def mouth_track(phones: list[Phone], audio: np.ndarray, effort: float = 1.0) -> MouthTrack:
    """Mouth, jaw and tongue over the whole clip.

    phones: ARPAbet names and "sil", seconds; audio [samples] float32, 16 kHz; effort: 1 plain, less when mumbled.
    """
    n = int(np.ceil(len(audio) / RATE * TRACK_RATE)) + 1
    times = np.arange(n) / TRACK_RATE
    level = loudness(audio)
    pulls = _pulls(phones, level, effort)
    weights = _blend(pulls, times)
    closure, teeth = closures(phones, level, times)
    weights += (_TARGET["FV"] - weights) * (0.92 * teeth)[:, None] * MOUTH
    weights += (_TARGET["MBP"] - weights) * closure[:, None] * MOUTH
    speaking = np.zeros(n)
    for name, a, b in phones:
        if name != "sil":
            speaking[(times >= a - 0.07) & (times <= b + 0.07)] = 1
    smooth = gaussian_filter1d(weights, 1.3, axis=0, mode="nearest")
    return MouthTrack(smooth.astype(np.float32), closure, teeth, gaussian_filter1d(speaking, 5, mode="nearest"))


def _blend(pulls, times: np.ndarray) -> np.ndarray:
    total = np.zeros((len(times), len(EXPRESSIONS)))
    norm = np.full((len(times), 4), 1e-6)
    for name, a, b, strength in pulls:
        core = (b - a) / 2 * (0.9 if name == "sil" else 0.5)  # the plateau
        centre = (a + b) / 2 - (0 if name == "sil" else LEAD_S)
        first, last = np.searchsorted(times, (centre - core - 0.5, centre + core + 0.5))
        offset = times[first:last] - centre
        distance = np.maximum(np.abs(offset) - core, 0)
        sharp = 0.62 if name in ("MBP", "FV") else 1.0
        for group in range(4):
            decay = np.where(offset < 0, BEFORE_S[group], AFTER_S[group]) * sharp
            pull = DOMINANCE[name][group] * np.exp(-((distance / decay) ** 1.6))
            norm[first:last, group] += pull
            members = group == _GROUPS
            total[first:last, members] += pull[:, None] * (_TARGET[name] * strength)[members]
    return total / np.maximum(norm, 1e-3)[:, _GROUPS] * np.minimum(1, norm / 0.05)[:, _GROUPS]


def closures(phones: list[Phone], level: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(closure, teeth) [n] 0..1: when lips are shut for M B P, and teeth rest on the lip for F V."""
    closure, teeth = np.zeros(len(times)), np.zeros(len(times))
    for name, a, b in phones:
        if name in BILABIAL:
            start = a - LEAD_S
            end = max(_release(name, a, b, level), start + CLOSED_AT_LEAST_S)
            closure = np.maximum(closure, _bump(times, start, end, APPROACH_S, RELEASE_S))
        elif name in LABIODENTAL:
            teeth = np.maximum(teeth, _bump(times, a - 0.005, max(b - 0.01, a + 0.035), 0.036, 0.034))
    return closure, teeth


def _bump(times, start, end, rise, fall):
    before, after = np.maximum(start - times, 0) / rise, np.maximum(times - end, 0) / fall
    return np.exp(-(before**2) - after**2)


def _release(name: str, a: float, b: float, level: np.ndarray) -> float:
    """When the lips part: at the burst of B and P (the steepest rise of the sound), near the end of M."""
    if name == "M":
        return b - min(0.012, 0.2 * (b - a))
    here = np.log(level[int(a * RATE) : int(b * RATE)] + 1e-3)
    if len(here) < 320:
        return b - 0.3 * (b - a)
    rise = here[80:] - here[:-80]  # over 5 ms
    burst = a + (int(np.argmax(rise)) + 40) / RATE
    return float(np.clip(burst, a + 0.4 * (b - a), b - 0.005))
