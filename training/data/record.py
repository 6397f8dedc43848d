"""What became of each recording, on disk: `prepared/<id>.json`, so that a killed run goes on where it was."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from training.data.clip import write_text_atomic
from training.data.recording import Recording

FORMAT = "mouthpiece-prepared/1"
FOLDER = "prepared"


class ClipNote(BaseModel):
    """Figures of one clip that clip.json has no place for."""

    model_config = ConfigDict(frozen=True)
    id: str
    from_s: float  # container time of its frame 0
    seconds: float
    offset_ms: float  # sound behind the picture, as found
    offset_confidence: float  # 0..1; below 0.5 the offset says little
    offset_mended: bool
    face_px: float  # chin to brows in the source, median
    inside: float  # least share of the square that the source picture covers
    yaw_deg: float  # furthest turn
    resampled: float  # crop pixels per source pixel: above 1 is enlarged


class Outcome(BaseModel):
    """What became of one recording: clips, or the reason why there are none."""

    model_config = ConfigDict(frozen=True)
    format: Literal["mouthpiece-prepared/1"] = FORMAT
    id: str
    video: str
    stamp: str  # size and time of its files, and the settings: another stamp is another outcome
    state: Literal["clips", "rejected", "failed"]
    reason: str = ""
    person: str = ""
    emotion: str = ""
    split: str = ""
    picture: str = ""  # codec, size, rate and rotation of the source, for the report
    notes: list[ClipNote] = []
    dropped: list[str] = []  # scenes of it that gave no clip, and why


def stamp_of(recording: Recording, settings: str) -> str:
    """Changes when the files or the settings do."""
    parts = []
    for path in (recording.video, recording.sound, recording.video.with_suffix(".txt")):
        if path and path.is_file():
            about = path.stat()
            parts.append(f"{about.st_size}:{about.st_mtime_ns}")
    return "|".join([*parts, recording.text, f"{recording.start_s}-{recording.end_s}", settings])


def read_outcome(root: Path, recording_id: str) -> Outcome | None:
    """The outcome on disk, or None when there is none that can be read."""
    try:
        return Outcome.model_validate_json((root / FOLDER / f"{recording_id}.json").read_text())
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def write_outcome(root: Path, outcome: Outcome) -> None:
    write_text_atomic(root / FOLDER / f"{outcome.id}.json", outcome.model_dump_json(indent=1) + "\n")


def is_finished(root: Path, outcome: Outcome | None, stamp: str) -> bool:
    """Whether nothing is left to do: same files, same settings, and its clips are there. Failures are tried again."""
    if outcome is None or outcome.stamp != stamp or outcome.state == "failed":
        return False
    return all((root / "clips" / note.id / "clip.json").is_file() for note in outcome.notes)


def clear_leftovers(root: Path) -> None:
    """Removes temporary files and folders of runs whose process is gone."""
    for path in [*root.glob("clips/.*.tmp"), *root.glob(f"{FOLDER}/.*.tmp"), *root.glob(".*.tmp")]:
        owner = path.name.rsplit(".", 2)[-2]
        if owner.isdigit() and _alive(int(owner)) and int(owner) != os.getpid():
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
