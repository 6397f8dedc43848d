"""`python -m training.data.prepare SOURCE OUT`: recordings of people -> clips that training reads (docs/data.md).

SOURCE is CREMA-D, VoxCeleb2, MEAD or HDTF as published, any folder of videos, or one video. A run that was stopped
goes on where it was. One line on stderr for each file that gave nothing, and why.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.data import face
from training.data.clip import CORPUS_FORMAT, FPS, ClipError, Corpus, read_info, write_text_atomic
from training.data.ingest import ingest
from training.data.landmarks import FaceLandmarker, LandmarkError, MediapipeLandmarker
from training.data.prepared_report import write_report
from training.data.record import FOLDER, Outcome, clear_leftovers, is_finished, read_outcome, stamp_of, write_outcome
from training.data.recording import Recording, SourceError
from training.data.sources import find
from training.data.take import Settings

SPLIT_RULE = (
    "by hash: VoxCeleb2's test people, and 5 % of people of CREMA-D, MEAD and HDTF, are held out whole; of the other "
    "sentences 5 % test, 5 % val"
)


@dataclass(frozen=True)
class Options:
    """Turns recordings of people into clips, or goes on with a run that was stopped."""

    source: Annotated[Path, tyro.conf.Positional]
    """A data set, a folder of videos, or one video."""
    out: Annotated[Path, tyro.conf.Positional]
    """The corpus folder that is written."""
    kind: Literal["auto", "crema-d", "voxceleb2", "mead", "hdtf", "folder"] = "auto"
    """The layout of SOURCE."""
    size: Literal[256, 512] = 512
    """Side of the clips' pictures, pixels."""
    jobs: int = 0
    """Processes; 0: one for every core."""
    fix_sync: bool = False
    """Move the sound by the offset that was found, where it is sure."""
    matte: bool = False
    """Cut the person out of the background (alpha)."""
    pixels: bool = True
    """--no-pixels: sound and annotation only."""
    least_seconds: float = 1.0
    """Shorter scenes are left out."""
    longest_seconds: float = 20.0
    """Longer scenes become several clips."""
    limit: int = 0
    """Only the first so many recordings; 0: all."""


def main(options: Options) -> int:
    """0: every recording gave clips; 1: some did not; 2: nothing could be done; 130: stopped with Ctrl-C."""
    try:
        recordings = find(options.source, options.kind)[: options.limit or None]
        settings = check(options)
        about = open_or_start(options, settings)
        MediapipeLandmarker().close()
        face.calibration()
        outcomes = run(recordings, options, settings)
        finish(options.out, about, outcomes)
    except (SourceError, ClipError, LandmarkError) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    except BrokenProcessPool:
        print(
            "prepare: a worker process was killed, perhaps for memory; run the same command with fewer --jobs",
            file=sys.stderr,
        )
        return 2
    except OSError as error:
        print(f"prepare: {options.out}: {error.strerror or error}; check the disk and the rights", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("prepare: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"{options.out}/report.html")
    return 0 if all(o.state == "clips" for o in outcomes) else 1


def check(options: Options) -> Settings:
    """The settings, or ClipError for arguments that make no sense."""
    if not 0.5 <= options.least_seconds < options.longest_seconds:
        raise ClipError(
            f"--least-seconds {options.least_seconds:g}: expected at least 0.5 and less than --longest-seconds"
        )
    if options.out.exists() and not options.out.is_dir():
        raise ClipError(f"{options.out}: expected a folder to write to, found a file")
    if options.out.resolve() == options.source.resolve():
        raise ClipError(f"{options.out}: the corpus needs a folder of its own, apart from SOURCE")
    return Settings(
        size=options.size,
        least_s=options.least_seconds,
        longest_s=options.longest_seconds,
        fix_sync=options.fix_sync,
        matte=options.matte,
        pixels=options.pixels,
    )


def open_or_start(options: Options, settings: Settings) -> dict:
    """corpus.json of OUT, begun if it is not there. Raises ClipError when OUT holds another kind of corpus."""
    path = options.out / "corpus.json"
    if path.exists():
        about = Corpus(options.out).about
        if "prepared" not in about:
            raise ClipError(f"{options.out} holds a corpus that prepare did not make; name another folder")
    else:
        about = {"format": CORPUS_FORMAT, "seed": 0, "fps": FPS, "split_rule": SPLIT_RULE}
    about["prepared"] = {"source": str(options.source), "settings": str(settings)}
    for folder in (FOLDER, "clips", "people"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    clear_leftovers(options.out)
    write_text_atomic(path, json.dumps(about, indent=1) + "\n")
    return about


def run(recordings: list[Recording], options: Options, settings: Settings) -> list[Outcome]:
    """Ingests what is not finished, with a progress bar; outcomes in the order of `recordings`."""
    root, outcomes, waiting = options.out, {}, []
    for recording in recordings:
        stamp = stamp_of(recording, str(settings))
        known = read_outcome(root, recording.id)
        if is_finished(root, known, stamp):
            outcomes[recording.id] = known
            complain(known)
        else:
            waiting.append((recording, root, settings, stamp))
    jobs = min(options.jobs or os.cpu_count() or 1, max(1, len(waiting)))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=False)) as bar:
        task = bar.add_task("recordings", total=len(recordings), completed=len(outcomes))
        for outcome in _work(waiting, jobs):
            outcomes[outcome.id] = outcome
            complain(outcome)
            bar.advance(task)
    return [outcomes[r.id] for r in recordings]


def complain(outcome: Outcome) -> None:
    if outcome.state != "clips":
        print(f"prepare: {outcome.video}: {outcome.state}: {outcome.reason}", file=sys.stderr)


def _work(waiting: list[tuple], jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        try:
            yield from (_one(*job) for job in waiting)
        finally:
            _close_landmarker()
        return
    context = multiprocessing.get_context("spawn")  # the landmark worker's pipes must not be shared
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin)
    try:
        for future in as_completed([pool.submit(_one, *job) for job in waiting]):
            yield future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and lets the file in hand be finished


_landmarker: FaceLandmarker | None = None


def _close_landmarker() -> None:
    global _landmarker
    if _landmarker is not None:
        _landmarker.close()
        _landmarker = None


def _one(recording: Recording, root: Path, settings: Settings, stamp: str) -> Outcome:
    """One recording in this process; a landmark worker that dies is replaced once."""
    global _landmarker
    for attempt in (1, 2):
        try:
            if _landmarker is None:
                _landmarker = MediapipeLandmarker()
            outcome = ingest(recording, root, settings, _landmarker, stamp)
            break
        except LandmarkError as error:
            _close_landmarker()
            known = {"id": recording.id, "video": str(recording.video), "stamp": stamp}
            outcome = Outcome(**known, state="failed", reason=f"{error} (tried {attempt} times)")
    try:
        write_outcome(root, outcome)
    except OSError as error:
        outcome = outcome.model_copy(
            update={"state": "failed", "reason": f"{error.strerror}: nothing noted; run it again"}
        )
    return outcome


def finish(root: Path, about: dict, outcomes: list[Outcome]) -> None:
    """corpus.json with its counts, people/, and the report."""
    infos = [read_info(root / "clips" / note.id) for o in outcomes for note in o.notes]
    people = sorted({info.person for info in infos})
    for person in people:
        mine = [info for info in infos if info.person == person]
        facts = {"name": person, "real": True, "clips": len(mine), "frames": sum(i.frames for i in mine)}
        write_text_atomic(root / "people" / f"{person}.json", json.dumps(facts, indent=1) + "\n")
    about |= {"people": people, "clips": len(infos), "frames": sum(i.frames for i in infos)}
    about["splits"] = dict(sorted(Counter(i.split for i in infos).items()))
    about["rejected"] = [f"{o.video}: {o.reason}" for o in outcomes if o.state != "clips"]
    write_text_atomic(root / "corpus.json", json.dumps(about, indent=1) + "\n")
    write_report(root, about, outcomes)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
