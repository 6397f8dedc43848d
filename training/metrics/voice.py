"""How much of mood and person is heard in a voice: accuracy, confusion, and retrieval of the right face, beside chance.

All figures are of whole clips: a student's answers are averaged over windows a quarter of a second apart, as a running
stream would. Real and synthetic voices are told apart, and so are held-out sentences, voices and people.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data.heard import Heard
from training.data.usual import BETWEEN, Usual, asked, together, usual_in
from training.models.speech2video.students import Students, cosine

EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad")


def gallery_of(heard: Heard, nu: Tensor) -> tuple[Tensor, list[str]]:
    """The mean face of every person over all their clips: `[people, D]`, and their names."""
    people = sorted({clip.person for clip in heard.clips})
    rows = [nu[[i for i, clip in enumerate(heard.clips) if clip.person == name]].mean(0) for name in people]
    return torch.stack(rows), people


def usual_of(heard: Heard, index: int, most: int = 12) -> Usual:
    """What is usual for the voice of a clip by its other clips, whatever their mood, as after a minute."""
    others = [i for i in heard.by_voice[heard.clips[index].voice] if i != index]
    parts = [usual_in(heard, i) for i in others[:: max(1, len(others) // most)][:most]]
    return together(parts, heard.copies[index][0].contexts.shape[1])


def answers(
    students: Students, heard: Heard, index: int, gallery: Tensor, copy: int = 0, known: bool = True
) -> tuple[Tensor, Tensor]:
    """One clip: mood `[6]` as mean probability, and scores `[people]` as mean cosine.

    known: whether the voice has been heard for a while, in other moods too; else only this clip tells what is usual.
    """
    clip = heard.clips[index]
    first, last = int(clip.speech[0] * 25) + 12, max(int(clip.speech[1] * 25), int(clip.speech[0] * 25) + 13)
    ends = list(range(first, min(last, clip.length), BETWEEN)) or [clip.length - 1]
    usual = usual_of(heard, index) if known and copy == 0 else usual_in(heard, index, copy)
    mu, nu = asked(students, heard.copies[index][copy], ends, usual)
    return mu.softmax(1).mean(0), cosine(nu, gallery).mean(0)


def evaluate(students: Students, heard: Heard, gallery: Tensor, people: list[str]) -> dict[str, Any]:
    """Figures by set: `test` (sentences never learned from), `held_voice`, `held_person`, each also real and synthetic,
    from the first word (nothing known of the voice but the clip itself), and `test, bad microphones`.
    """
    found: dict[str, Any] = {}
    for split in ("test", "held_voice", "held_person"):
        index = heard.of(split)
        sets = {split: index}
        for label, real in (("real", True), ("synthetic", False)):
            sets[f"{split}, {label}"] = [i for i in index if heard.clips[i].real_voice == real]
        for label, chosen in sets.items():
            if chosen:
                found[label] = _figures(students, heard, chosen, gallery, people)
        if index:
            found[f"{split}, from the first word"] = _figures(students, heard, index, gallery, people, known=False)
        if split == "test" and index:
            found["test, bad microphones"] = _figures(students, heard, index, gallery, people, copy=1)
    return found


def _figures(
    students: Students,
    heard: Heard,
    index: list[int],
    gallery: Tensor,
    people: list[str],
    copy: int = 0,
    known: bool = True,
) -> dict[str, Any]:
    confusion = np.zeros((6, 6), int)
    ranks = []
    for i in index:
        clip = heard.clips[i]
        mood, scores = answers(students, heard, i, gallery, copy, known)
        if clip.voice_says:
            confusion[EMOTIONS.index(clip.voice_says), int(mood.argmax())] += 1
        right = scores[people.index(clip.person)]
        ranks.append(int((scores > right).sum()) + 1)
    told = int(confusion.sum())
    return {
        "clips": len(index),
        "emotion_clips": told,
        "emotion": float(np.trace(confusion) / told) if told else None,
        "emotion_chance": float(confusion.sum(1).max() / told) if told else None,
        "confusion": confusion.tolist(),
        "rank_1": float(np.mean(np.array(ranks) <= 1)),
        "rank_5": float(np.mean(np.array(ranks) <= 5)),
        "rank_1_chance": 1 / len(people),
        "rank_5_chance": 5 / len(people),
    }


def table(figures: dict[str, dict[str, Any]]) -> str:
    """For people: one line a set, chance in brackets, and the confusion of the live students on held-out sentences."""
    lines = []
    for name, sets in figures.items():
        lines.append(f"{name} students: mood (always the commonest), person rank 1 and rank 5 (chance)")
        for label, f in sets.items():
            mood = (
                "-"
                if f["emotion"] is None
                else f"{f['emotion']:.2f} ({f['emotion_chance']:.2f}) of {f['emotion_clips']}"
            )
            ranks = f"{f['rank_1']:.2f} ({f['rank_1_chance']:.2f})  {f['rank_5']:.2f} ({f['rank_5_chance']:.2f})"
            lines.append(f"  {label:32} {mood:22} {ranks}  of {f['clips']}")
    for name, sets in figures.items():
        if "test" in sets:
            lines.append(f"{name}, test: rows what the voice was given, columns what was heard: {' '.join(EMOTIONS)}")
            for mood, row in zip(EMOTIONS, sets["test"]["confusion"]):
                lines.append(f"  {mood:8} " + " ".join(f"{n:4d}" for n in row))
    return "\n".join(lines)
