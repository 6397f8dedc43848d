"""Where recordings come from: a published data set, known by its layout (layouts.py), or any folder of videos.

Each yields `Recording`s, in a fixed order, from file names alone; nothing is opened here.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from training.data.layouts import CremaD, Hdtf, Mead, VoxCeleb2
from training.data.recording import VIDEO_SUFFIXES, Recording, Source, SourceError, split_of, videos_below


class Folder:
    """Any folder of videos. A sub-folder names its person; `x.txt` beside `x.mp4` holds what is said in it (English),
    and so may `transcripts.tsv` (file name, tab, text)."""

    name = "folder"

    def found_in(self, root: Path) -> bool:
        return True

    def recordings(self, root: Path) -> Iterator[Recording]:
        texts = self._transcripts(root)
        for video in videos_below(root):
            inner = video.relative_to(root)
            person = _slug(inner.parts[0] if len(inner.parts) > 1 else root.resolve().name) or "me"
            beside = video.with_suffix(".txt")
            text = beside.read_text(encoding="utf-8", errors="replace").strip() if beside.is_file() else ""
            name = _slug(str(inner.with_suffix("")))
            if name != str(inner.with_suffix("")):  # what the slug lost still tells two files apart
                name += f"-{hashlib.sha256(str(inner).encode()).hexdigest()[:6]}"
            yield Recording(
                id=name,
                video=video,
                person=person,
                dataset=self.name,
                sentence=name,
                text=text or texts.get(video.name, texts.get(video.stem, "")),
                split=split_of(person, name),
            )

    def _transcripts(self, root: Path) -> dict[str, str]:
        table = root / "transcripts.tsv"
        if not table.is_file():
            return {}
        with table.open(encoding="utf-8", errors="replace", newline="") as lines:
            rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            return {row[0].strip(): row[1].strip() for row in rows if len(row) >= 2}


SOURCES: tuple[Source, ...] = (CremaD(), VoxCeleb2(), Mead(), Hdtf(), Folder())
KINDS = tuple(source.name for source in SOURCES)


def find(root: Path, kind: str = "auto") -> list[Recording]:
    """The recordings below `root`; `auto` knows a data set by its layout. Raises SourceError when there are none."""
    if root.is_file() and root.suffix.lower() in VIDEO_SUFFIXES:
        return [r for r in Folder().recordings(root.parent) if r.video == root]
    if not root.is_dir():
        raise SourceError(
            f"{root}: expected a folder of videos, or one video file; found {'a file' if root.exists() else 'nothing'}"
        )
    source = next(s for s in SOURCES if (s.name == kind if kind != "auto" else s.found_in(root)))
    if not source.found_in(root):
        raise SourceError(f"{root}: is not laid out as {source.name}. Expected {source.__doc__.splitlines()[0]}")
    found = list(source.recordings(root))
    if not found:
        raise SourceError(f"{root}: no videos found in it as {source.name}. Expected {source.__doc__.splitlines()[0]}")
    return found


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-._+")
