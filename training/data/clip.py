"""The one clip format: a talking face with sound and per-frame truth, as a folder on disk (docs/formats.md)."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import av
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.numpy import load_file, save

RATE = 16_000  # audio samples a second
FPS = 30
FORMAT = "mouthpiece-clip/1"
CORPUS_FORMAT = "mouthpiece-corpus/1"
EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
SPLITS = ("train", "val", "test", "held_voice", "held_person")
PIXEL_FILES = ("rgb.mp4", "alpha.mp4")
Split = Literal["train", "val", "test", "held_voice", "held_person"]
Phone = tuple[str, float, float]  # ARPAbet name or "sil", start and end in seconds


class ClipError(Exception):
    """A clip or corpus that cannot be read or written; the message is one line for the person at the keyboard."""


class ClipInfo(BaseModel):
    """What `clip.json` holds. `digests` maps the clip's other files to their SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal["mouthpiece-clip/1"] = FORMAT
    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    person: str
    voice: str
    sentence: str
    text: str = ""
    language: str = "en"
    split: Split
    source: str
    real_voice: bool
    frames: int = Field(ge=1)
    fps: int = FPS
    size: int = Field(ge=16)
    phones: list[Phone] = []
    seed: int = 0
    script: list[tuple[float, str, float]] = []  # (start s, emotion, intensity): what the performance was asked for
    digests: dict[str, str] = {}


@dataclass(frozen=True)
class Truth:
    """Per-frame truth of `n` frames, float32 unless said; units as in docs/formats.md."""

    landmarks: np.ndarray  # [n, 68, 2] pixels at `size`
    pose: np.ndarray  # [n, 3] yaw, pitch, roll, radians
    shift: np.ndarray  # [n, 3] cm
    gaze: np.ndarray  # [n, 2] yaw, pitch, radians
    blink: np.ndarray  # [n] 0 open .. 1 closed
    expression: np.ndarray  # [n, 60] weights, without blink and without the lids' share of gaze
    emotion: np.ndarray  # [n, 6] weights times intensity, order EMOTIONS
    intensity: np.ndarray  # [n] 0..1
    phone: np.ndarray  # [n] int16, index into ClipInfo.phones, -1: none
    aperture: np.ndarray  # [n] inner-lip gap over the distance of the outer eye corners, pose zero

    SHAPES = {  # noqa: RUF012 - a constant table, not a field
        "landmarks": (68, 2), "pose": (3,), "shift": (3,), "gaze": (2,), "blink": (), "expression": (60,),
        "emotion": (6,), "intensity": (), "phone": (), "aperture": (),
    }  # fmt: skip

    def check(self, frames: int) -> None:
        """Raises ClipError unless every array has `frames` rows, its shape and finite numbers."""
        for name, tail in self.SHAPES.items():
            found = getattr(self, name)
            if found.shape != (frames, *tail):
                raise ClipError(f"truth '{name}': expected shape {(frames, *tail)}, found {found.shape}")
            if not np.isfinite(found).all():
                raise ClipError(f"truth '{name}' holds numbers that are not finite")


@dataclass(frozen=True)
class Clip:
    """One finished clip on disk; sound and truth are read when asked for."""

    folder: Path
    info: ClipInfo

    def audio(self) -> np.ndarray:
        """The clip's sound: [samples] float32, 16 kHz mono, -1..1."""
        return read_audio(self.folder / "audio.flac")

    def truth(self) -> Truth:
        """The clip's truth; raises ClipError when the file is missing, cut short or of another shape."""
        path = self.folder / "truth.safetensors"
        try:
            tensors = load_file(path)
            truth = Truth(**{f.name: tensors[f.name] for f in fields(Truth)})
        except Exception as error:
            raise ClipError(f"{path}: cannot read the truth ({error}); make the clip again") from error
        truth.check(self.info.frames)
        return truth

    def has_pixels(self) -> bool:
        return all(name in self.info.digests and (self.folder / name).is_file() for name in PIXEL_FILES)

    def verify(self) -> None:
        """Compares every file with its digest; raises ClipError for the first that differs."""
        for name, digest in self.info.digests.items():
            path = self.folder / name
            if not path.is_file() or sha256(path) != digest:
                raise ClipError(f"{path}: missing or changed since it was written; delete the clip and make it again")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_audio(path: Path) -> np.ndarray:
    """Any audio file that FFmpeg reads -> [samples] float32, 16 kHz mono. Raises ClipError with the reason."""
    try:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler("flt", "mono", RATE)
            blocks = [b.to_ndarray()[0] for f in container.decode(audio=0) for b in resampler.resample(f)]
            blocks += [b.to_ndarray()[0] for b in resampler.resample(None)]
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise ClipError(f"{path}: cannot read sound from it ({error})") from error
    if not blocks:
        raise ClipError(f"{path}: holds no sound")
    return np.concatenate(blocks).astype(np.float32, copy=False)


def write_flac(path: Path, samples: np.ndarray) -> None:
    """[samples] float32 -1..1 -> 16 bit FLAC, 16 kHz mono."""
    pcm = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def write_text_atomic(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_clip(corpus: Path, info: ClipInfo, audio: np.ndarray, truth: Truth) -> Clip:
    """Writes `clips/<id>` under `corpus` in one step: complete under its final name, or not there at all.

    Raises ClipError, a full disk included.
    """
    truth.check(info.frames)
    final = corpus / "clips" / info.id
    temporary = corpus / "clips" / f".{info.id}.{os.getpid()}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write_flac(temporary / "audio.flac", audio)
        arrays = {f.name: np.ascontiguousarray(getattr(truth, f.name)) for f in fields(Truth)}
        (temporary / "truth.safetensors").write_bytes(save(arrays))
        digests = {p.name: sha256(p) for p in sorted(temporary.iterdir())}
        text = info.model_copy(update={"digests": digests}).model_dump_json(indent=1)
        (temporary / "clip.json").write_text(text + "\n")
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ClipError(f"{final}: not written: {why_not_written(error)}") from error
    return Clip(final, read_info(final))


def why_not_written(error: Exception) -> str:
    """The error in words, with the remedy when the disk is full."""
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    return "the disk is full; free some space and run the same command again" if full else str(error)


def add_pixels(clip: Clip, files: dict[str, Path]) -> Clip:
    """Moves finished `rgb.mp4` and `alpha.mp4` into the clip; it has pixels only once clip.json names both."""
    digests = dict(clip.info.digests)
    for name in PIXEL_FILES:
        digests[name] = sha256(files[name])
        os.replace(files[name], clip.folder / name)
    info = clip.info.model_copy(update={"digests": digests})
    write_text_atomic(clip.folder / "clip.json", info.model_dump_json(indent=1) + "\n")
    return Clip(clip.folder, info)


def read_info(folder: Path) -> ClipInfo:
    path = folder / "clip.json"
    try:
        return ClipInfo.model_validate_json(path.read_text())
    except FileNotFoundError as error:
        raise ClipError(f"{path}: not found; expected a clip folder with clip.json") from error
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error), "loc": ()}
        where = ".".join(str(part) for part in first["loc"])
        raise ClipError(f"{path}: not a {FORMAT} clip: {where} {first['msg']}") from error


def read_clip(folder: Path) -> Clip:
    """Opens one clip folder. Raises ClipError when it is no clip of this format."""
    return Clip(Path(folder), read_info(Path(folder)))


class Corpus:
    """A folder of clips; iterates in order of clip id, unfinished temporary folders left out."""

    def __init__(self, root: Path | str):
        self.root = Path(root)
        path = self.root / "corpus.json"
        try:
            self.about = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ClipError(f"{path}: expected a corpus folder with corpus.json ({error})") from error
        if self.about.get("format") != CORPUS_FORMAT:
            raise ClipError(f"{path}: expected format {CORPUS_FORMAT}, found {self.about.get('format')!r}")

    def ids(self) -> list[str]:
        folder = self.root / "clips"
        return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []

    def __iter__(self) -> Iterator[Clip]:
        return (read_clip(self.root / "clips" / name) for name in self.ids())

    def split(self, *names: Split) -> list[Clip]:
        """The clips of the named splits, in order of id."""
        unknown = set(names) - set(SPLITS)
        if unknown:
            raise ClipError(f"unknown split {sorted(unknown)}; expected some of {', '.join(SPLITS)}")
        return [clip for clip in self if clip.info.split in names]
