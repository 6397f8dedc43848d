"""What is usual for a voice, by the clips of it that were heard, and moments of clips as students are given them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.heard import ROWS, STRIDE, Heard, Sounds, windows
from training.models.speech2video.manner import FEATURES
from training.models.speech2video.students import Listened, StudentConfig, Students, habit_of

Array = NDArray[np.float32]
BETWEEN = 6
"""Contexts between the moments at which a whole sound is read: 0.24 s."""


@dataclass(frozen=True)
class Usual:
    """`context [C]`: the mean over `seconds` of speech; `habit [18]`: the mean row over `voiced` seconds."""

    context: Array
    seconds: float
    habit: Array
    voiced: float


def usual_in(heard: Heard, index: int, copy: int = 0, until: int | None = None) -> Usual:
    """What one clip tells, up to context `until`."""
    clip, sounds = heard.clips[index], heard.copies[index][copy]
    if until is not None:
        return usual_of_speech(sounds, clip.speech, until)
    if (index, copy) not in heard.known:
        heard.known[index, copy] = usual_of_speech(sounds, clip.speech, len(sounds))
    found: Usual = heard.known[index, copy]
    return found


def usual_of_speech(sounds: Sounds, speech: tuple[float, float], until: int) -> Usual:
    """What is said between two times in seconds, up to context `until`, tells of its voice."""
    first = int(speech[0] * 25)
    last = max(min(int(speech[1] * 25), until + 1), first + 1)
    contexts = sounds.contexts[first:last].astype(np.float32)
    sums, voiced = habit_of(torch.from_numpy(sounds.rows[: ROWS * last].astype(np.float32)))
    seconds = float(voiced)
    return Usual(contexts.mean(0), len(contexts) / 25, (sums / max(seconds, 1e-3)).numpy(), seconds)


def together(parts: Sequence[Usual], size: int) -> Usual:
    """Several clips' as one, `size` numbers to a context; of none, nothing is known."""
    seconds, voiced = sum(part.seconds for part in parts), sum(part.voiced for part in parts)
    context, habit = np.zeros(size, np.float32), np.zeros(FEATURES, np.float32)
    for part in parts:
        context += np.float32(part.seconds / max(seconds, 1e-6)) * part.context
        habit += np.float32(part.voiced / max(voiced, 1e-6)) * part.habit
    return Usual(context, seconds, habit, voiced)


def moments(sounds: Sounds, ends: Sequence[int], shape: StudentConfig) -> tuple[Array, Array]:
    """Windows that end with contexts `ends`: omegas `[n, window, C]` and rows of manner `[n, rows, 18]`."""
    omegas = windows(sounds.contexts, ends, shape.window, shape.stride // STRIDE)
    return omegas, windows(sounds.rows, [ROWS * end + ROWS - 1 for end in ends], shape.rows)


def listened(cut: Sequence[tuple[Array, Array]], usual: Sequence[Usual]) -> Listened:
    """Moments, each with what is usual for its voice, as one batch."""

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)[:, None]

    return Listened(
        torch.from_numpy(np.stack([omegas for omegas, _ in cut])),
        torch.from_numpy(np.stack([known.context for known in usual])),
        column([known.seconds for known in usual]),
        torch.from_numpy(np.stack([rows for _, rows in cut])),
        torch.from_numpy(np.stack([known.habit for known in usual])),
        column([known.voiced for known in usual]),
    )


def without_rows(heard: Listened) -> Listened:
    """For the paper's students: the last omega alone."""
    return Listened(heard.omegas[:, -1:], heard.usual, heard.seconds)


def asked(students: Students, sounds: Sounds, ends: Sequence[int], usual: Usual) -> tuple[Tensor, Tensor]:
    """What either kind of students make of the moments of a sound that end with contexts `ends`: `mu [n, 6], nu [n, D]`."""
    omegas, rows = moments(sounds, ends, students.config)
    given = listened(list(zip(omegas, rows)), [usual] * len(ends))
    with torch.no_grad():
        mu, nu = students(given if students.config.rows else without_rows(given))
    return mu, nu


def read_voice(students: Students, sounds: Sounds, speech: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """What students make of one sound by itself: mood as probabilities `[6]`, and `nu [D]`.

    The paper's students are asked once, at the end of what is said; live ones all the way, and the mean is taken.
    """
    last = max(min(int(speech[1] * 25), len(sounds) - 1), 0)
    ends = [last]
    if students.config.rows:
        ends = list(range(min(int(speech[0] * 25) + 12, last), last + 1, BETWEEN))
    mu, nu = asked(students, sounds, ends, usual_of_speech(sounds, speech, last))
    return mu.softmax(1).mean(0), nu.mean(0)
