"""Are the lips in step with the voice? Measured on the aperture, the inner-lip gap over the eye distance, at 30 fps.

Figures pool all clips of a set: a single clip scatters. Times of phones are seconds, frame k shows k / 30 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FPS = 30
LABIAL = frozenset({"M", "B", "P"})
VOWELS = frozenset({"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"})
CLOSED_BELOW = 0.01
"""Aperture under which lips look closed: about 0.9 mm, half a pixel of a 256-pixel picture; truth keeps all other
consonants over it."""

Curve = NDArray[np.floating]
Phone = tuple[str, float, float]


@dataclass(frozen=True)
class Spoken:
    """One clip: drawn and true aperture `[n]`, and what is said when."""

    drawn: Curve
    truth: Curve
    phones: Sequence[Phone]


def correlation(a: Curve, b: Curve) -> float:
    """Pearson's r; 0 where one of the curves does not move."""
    a, b = np.asarray(a, np.float64) - np.mean(a), np.asarray(b, np.float64) - np.mean(b)
    scale = np.sqrt(np.sum(a * a) * np.sum(b * b))
    return float(np.sum(a * b) / scale) if scale > 1e-12 else 0.0


def pooled_correlation(clips: Iterable[Spoken], lag_frames: int = 0) -> float:
    """r of all frames of all clips, the drawn curve taken `lag_frames` later than the true one."""
    drawn, truth = zip(*(_shifted(clip, lag_frames) for clip in clips))
    return correlation(np.concatenate(drawn), np.concatenate(truth))


def _shifted(clip: Spoken, lag: int) -> tuple[Curve, Curve]:
    n = len(clip.truth)
    return clip.drawn[max(lag, 0) : n + min(lag, 0)], clip.truth[max(-lag, 0) : n + min(-lag, 0)]


def best_lag(clips: Sequence[Spoken], most_frames: int = 10) -> int:
    """Frames by which the drawn lips are late (negative: early), where pooled r peaks."""
    lags = range(-most_frames, most_frames + 1)
    return max(lags, key=lambda lag: (pooled_correlation(clips, lag), -abs(lag)))


def least_aperture(curve: Curve, start_s: float, end_s: float, margin_s: float = 0.0) -> float:
    """Smallest value between two times, the curve read linearly between frames."""
    first, last = (start_s - margin_s) * FPS, (end_s + margin_s) * FPS
    # a broken line is least at its ends or at a corner
    at = np.array([first, *range(int(np.ceil(first)), int(np.floor(last)) + 1), last])
    return float(np.interp(at, np.arange(len(curve)), curve).min())


def closure_recall(clips: Iterable[Spoken], closed_below: float = CLOSED_BELOW, within_s: float = 0.04) -> float:
    """Share of M, B and P during which, or within `within_s` of which, the drawn lips are visibly closed."""
    closed = [
        least_aperture(clip.drawn, start, end, within_s) < closed_below
        for clip in clips
        for name, start, end in clip.phones
        if name in LABIAL
    ]
    return float(np.mean(closed)) if closed else float("nan")


def labial_auc(clips: Iterable[Spoken], truth: bool = False) -> float:
    """Chance that M, B or P shows a smaller least aperture than another consonant: 0.5 knows nothing, 1 is perfect."""
    labial, other = [], []
    for clip in clips:
        curve = clip.truth if truth else clip.drawn
        for name, start, end in clip.phones:
            if name != "sil" and name not in VOWELS:
                (labial if name in LABIAL else other).append(least_aperture(curve, start, end))
    return area_under_curve(np.array(other), np.array(labial))


def area_under_curve(larger: Curve, smaller: Curve) -> float:
    """Chance that a draw of `larger` exceeds one of `smaller`, ties count half (Mann and Whitney 1947)."""
    if not len(larger) or not len(smaller):
        return float("nan")
    ordered = np.sort(smaller)
    below = np.searchsorted(ordered, larger, "left") + np.searchsorted(ordered, larger, "right")
    return float(below.mean() / (2 * len(ordered)))


def lip_table(clips: Sequence[Spoken]) -> dict[str, float]:
    """All figures of a set of clips by name."""
    return {
        "aperture_r": pooled_correlation(clips),
        "aperture_r_clip_median": float(np.median([correlation(clip.drawn, clip.truth) for clip in clips])),
        "lag_frames": best_lag(clips),
        "closure_recall": closure_recall(clips),
        "labial_auc": labial_auc(clips),
        "truth_labial_auc": labial_auc(clips, truth=True),
        "clips": len(clips),
    }
