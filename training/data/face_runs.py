"""Short runs of a corpus' clips as small pictures: what teachers, discriminators and SyncNet look at.

    python -m training.data.face_runs --corpus corpora/voices_own --out corpora/runs128

A run is `frames` frames in a row of one clip, `size` x `size` RGB over mid grey. Clips that have pixels are read; the
others are drawn from `clip.json` and truth. OUT/<person>.npy holds the pictures `[runs, frames, size, size, 3]` uint8,
OUT/<person>.json says which clips and frames they are; a person is there whole or not at all, so a killed run goes on.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from training.data.clip import Clip, ClipError, Corpus
from training.data.stored import stored_frames
from training.metrics.image import over_grey
from training.rig.drawing import SUPERSAMPLE, person_of
from training.rig.pack import HeadPackError
from training.rig.progress import progress_bar, start_workers
from training.rig.renderer import Renderer

Pixels = NDArray[np.uint8]
FORMAT = "mouthpiece-runs/1"


@dataclass(frozen=True)
class FaceRunsConfig:
    """What to draw, and how much of it."""

    corpus: Path = Path("corpora/voices_own")
    out: Path = Path("corpora/runs128")
    size: int = 128
    frames: int = 16
    """Frames of a run, at 30 a second."""
    train: int = 8
    """Runs of each person from sentences to learn from; people held out get as many."""
    val: int = 1
    test: int = 2
    spread: bool = False
    """Frames all over the clip, from its first on, instead of in a row: what teachers see of a clip."""
    seed: int = 0
    workers: int = 0
    """Processes; 0: one for every core."""


@dataclass(frozen=True)
class Run:
    """Where a run comes from: frames of `clip` from frame `first`, each `step` after the other."""

    clip: str
    person: str
    voice: str
    real_voice: bool
    split: str
    first: int
    step: int = 1


@dataclass(frozen=True)
class FaceRuns:
    """Runs and their pictures: `pixels[i] [frames, size, size, 3]` uint8 belongs to `runs[i]`."""

    runs: tuple[Run, ...]
    pixels: tuple[Pixels, ...]
    size: int
    frames: int

    def of(self, *splits: str) -> FaceRuns:
        """The runs of some splits."""
        kept = [i for i, run in enumerate(self.runs) if run.split in splits]
        return FaceRuns(tuple(self.runs[i] for i in kept), tuple(self.pixels[i] for i in kept), self.size, self.frames)


def chosen_runs(clips: list[Clip], config: FaceRunsConfig, person: str) -> list[Run]:
    """The runs of one person: clips in a shuffled order, each cut somewhere inside what is spoken."""
    rng = np.random.default_rng([config.seed, *person.encode()])
    wanted = {"train": config.train, "val": config.val, "test": config.test}
    wanted |= {"held_person": config.train, "held_voice": config.test}
    order = rng.permutation(len(clips))
    runs = []
    for split, count in wanted.items():
        fitting = [clips[i] for i in order if clips[i].info.split == split and clips[i].info.frames > config.frames + 8]
        for clip in fitting[:count]:
            spoken = [(a, b) for name, a, b in clip.info.phones if name != "sil"] or [(0.0, clip.info.frames / 30)]
            last = clip.info.frames - config.frames
            low = min(int(spoken[0][0] * 30), last)
            high = min(max(int(spoken[-1][1] * 30) - config.frames, low), last)
            first, step = int(rng.integers(low, high + 1)), 1
            if config.spread:
                first, step = 0, (clip.info.frames - 1) // max(config.frames - 1, 1)
            runs.append(Run(clip.info.id, person, clip.info.voice, clip.info.real_voice, split, first, step))
    return runs


def small(picture: Pixels, size: int) -> Pixels:
    """RGBA straight `[S, S, 4]` -> RGB over mid grey `[size, size, 3]`."""
    rgb = over_grey(picture)
    if len(rgb) != size:
        rgb = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA)
    return np.round(255 * rgb).astype(np.uint8)


def draw_run(clip: Clip, run: Run, config: FaceRunsConfig, renderer: Renderer | None) -> Pixels:
    """`[frames, size, size, 3]` uint8. A renderer is needed for clips without pixels."""
    wanted = range(run.first, run.first + config.frames * run.step, run.step)
    if clip.has_pixels():
        drawn = [small(picture, config.size) for picture in stored_frames(clip, wanted)]
    else:
        assert renderer is not None
        truth = clip.truth()
        drawn = [
            small(
                renderer.render(
                    truth.expression[k], truth.pose[k], truth.shift[k], truth.gaze[k], float(truth.blink[k])
                ),
                config.size,
            )
            for k in wanted
        ]
    if len(drawn) != config.frames:
        raise ClipError(f"{clip.folder}: expected frames {run.first} to {wanted[-1]}, it ends before")
    return np.stack(drawn)


def draw_person(clips: list[Clip], config: FaceRunsConfig, person: str) -> str:
    """Draws and stores all runs of a person, unless they are there; returns the person's name."""
    words = config.out / f"{person}.json"
    if words.is_file():
        return person
    by_id = {clip.info.id: clip for clip in clips}
    runs = chosen_runs(clips, config, person)
    renderer = None
    if not all(by_id[run.clip].has_pixels() for run in runs):
        renderer = Renderer(config.size, SUPERSAMPLE)
        renderer.set_person(person_of(clips[0]))
    pictures = [draw_run(by_id[run.clip], run, config, renderer) for run in runs]
    part = config.out / f".{person}.part.npy"
    np.save(part, np.stack(pictures))
    os.replace(part, config.out / f"{person}.npy")
    part = config.out / f".{person}.part"
    about = {"format": FORMAT, "size": config.size, "frames": config.frames, "runs": [vars(run) for run in runs]}
    part.write_text(json.dumps(about, indent=1) + "\n")
    os.replace(part, words)
    return person


def draw(config: FaceRunsConfig) -> None:
    """Draws what is missing, person by person. Raises ClipError or HeadPackError."""
    people: dict[str, list[Clip]] = {}
    for clip in Corpus(config.corpus):
        people.setdefault(clip.info.person, []).append(clip)
    config.out.mkdir(parents=True, exist_ok=True)
    with start_workers(config.workers, _begin, ()) as pool, progress_bar() as bar:
        task = bar.add_task("people drawn", total=len(people), note="")
        work = [pool.submit(draw_person, clips, config, person) for person, clips in sorted(people.items())]
        for done in as_completed(work):
            bar.update(task, advance=1, note=done.result())


def _begin() -> None:
    cv2.setNumThreads(1)  # one process a core


def load_runs(folder: Path) -> FaceRuns:
    """All runs under `folder`, pictures mapped from disk. Raises ClipError with what to do."""
    runs: list[Run] = []
    pixels: list[Pixels] = []
    size = frames = 0
    for words in sorted(Path(folder).glob("*.json")):
        try:
            about = json.loads(words.read_text())
            pictures = np.load(words.with_suffix(".npy"), mmap_mode="r")
            found = [Run(**run) for run in about["runs"]]
            size, frames = about["size"], about["frames"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ClipError(f"{words}: expected runs of training.data.face_runs: {error}; draw them again") from error
        if about.get("format") != FORMAT or pictures.shape != (len(found), frames, size, size, 3):
            raise ClipError(f"{words}: expected {len(found)} runs of {FORMAT}, found {pictures.shape}; draw them again")
        runs += found
        pixels += list(pictures)
    if not runs:
        raise ClipError(f"{folder}: holds no runs; draw them: python -m training.data.face_runs --out {folder}")
    return FaceRuns(tuple(runs), tuple(pixels), size, frames)


def main() -> int:
    config = tyro.cli(FaceRunsConfig)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        draw(config)
    except (ClipError, HeadPackError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenProcessPool:
        print(
            "a worker was killed, perhaps for want of memory; run it again to go on, with fewer --workers",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
