"""One recording of one person: where it lies and what its set says about it, and the split it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from training.data.clip import Split

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mov", ".mkv", ".webm", ".avi", ".flv", ".m4v", ".mpg", ".mpeg", ".wmv", ".mts", ".3gp")
)


class SourceError(Exception):
    """The folder is not what it should be; the message says what was expected and found."""


@dataclass(frozen=True)
class Recording:
    """One video of one person, or a stretch of one. `sound` is a file of its own where the set has one."""

    id: str  # names the clips made from it
    video: Path
    person: str
    dataset: str
    sound: Path | None = None
    start_s: float = 0.0
    end_s: float = float("inf")
    sentence: str = ""
    text: str = ""
    emotion: str = ""  # one of clip.EMOTIONS, or empty: not known
    intensity: float = 0.0
    split: Split = "train"


class Source(Protocol):
    """A layout: whether a folder has it, and the recordings in it."""

    name: str

    def found_in(self, root: Path) -> bool: ...

    def recordings(self, root: Path) -> Iterator[Recording]: ...


def split_of(person: str, sentence: str, hold_people: bool = False) -> Split:
    """The fixed split: 5 % of people held out whole where there are many, 5 % of sentences each for val and test."""
    if hold_people and _percent(person) < 5:
        return "held_person"
    place = _percent(sentence)
    return "test" if place < 5 else "val" if place < 10 else "train"


def _percent(name: str) -> float:
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32 * 100


def videos_below(folder: Path) -> list[Path]:
    found = (p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in found if p.is_file())
