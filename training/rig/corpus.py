"""`python -m training.rig.corpus OUT`: a talking corpus of synthetic people, sound and truth first, then pixels.

First every clip gets its sound and truth, in the order of the plan until the minutes are full; then, if asked for,
pixels are drawn person by person. Both phases skip what is finished, so a killed run goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import tyro

from training.data.clip import CORPUS_FORMAT, FPS, ClipError, Corpus, read_clip, write_text_atomic
from training.rig.align import AlignmentError
from training.rig.clipmaker import make_clip
from training.rig.landmarks import LandmarkModel
from training.rig.pack import HeadPackError, load_pack
from training.rig.person import Person, cast
from training.rig.plan import SPLIT_RULE, Slot, held_people, open_folders, slots
from training.rig.progress import progress_bar, start_workers
from training.rig.report import count_minutes, write_report
from training.rig.speech import SpeechError


@dataclass(frozen=True)
class Options:
    """Makes a corpus of talking synthetic people, or goes on with one that was interrupted."""

    out: Annotated[Path, tyro.conf.Positional]
    """The corpus folder."""
    people: int = 24
    minutes: float = 60
    size: int = 512
    """Picture size in pixels; landmarks are given at it."""
    seed: int = 0
    pixels: Literal["none", "h264"] = "h264"
    """none: sound and truth only; the frames can be drawn later, anywhere."""
    voices: Literal["shared", "own"] = "shared"
    """own: nobody speaks with another's voice, as identity in voices needs it; shared: every face with many voices."""
    workers: int = 0
    """Processes; 0: one for every core."""
    speech: str = os.environ.get("MOUTHPIECE_SPEECH", "none")
    """Folder that holds folders of recordings with transcripts.tsv; none: synthetic voices alone."""
    head_pack: Path | None = None
    """The face model; otherwise MOUTHPIECE_HEAD_PACK or the user's data folder."""
    rerender: bool = False
    """Draw the pixels of the clips in OUT from their clip.json and truth alone; no speech is needed."""


def main(options: Options) -> int:
    """0: all done; 1: done, but some clips failed; 2: nothing could be done. Reasons go to stderr, a line each."""
    try:
        check(options)
        load_pack(options.head_pack)
        rejected = [] if options.rerender else annotate(options)
        if options.rerender or options.pixels == "h264":
            from training.rig.drawing import draw_corpus

            rejected += draw_corpus(options.out, options.workers, options.head_pack)
        pictures = options.rerender or options.pixels != "none"
        write_report(options.out, rejected, pictures, options.head_pack)
    except (ClipError, SpeechError, HeadPackError) as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"corpus: {options.out}: {error.strerror or error}; check the disk and the rights", file=sys.stderr)
        return 2
    except BrokenProcessPool:
        print(
            "corpus: a worker was killed, perhaps for want of memory; run the same command again to go on, "
            "with fewer --workers if it happens again",
            file=sys.stderr,
        )
        return 2
    share = Corpus(options.out).about.get("real_voice_share", 1.0)
    if share < 0.5:
        print(f"corpus: only {share:.0%} of the time is a real voice; name recordings with --speech", file=sys.stderr)
    for line in rejected:
        print(f"corpus: left out {line}", file=sys.stderr)
    print(f"{options.out}/report.html")
    return 1 if rejected else 0


def check(options: Options) -> None:
    for name, value, low in (
        ("people", options.people, 1),
        ("minutes", options.minutes, 0.01),
        ("size", options.size, 64),
    ):
        if value < low:
            raise ClipError(f"--{name}: expected at least {low}, found {value}")
    if options.rerender:
        Corpus(options.out)


def _settings(options: Options) -> dict:
    """What makes two runs the same corpus. The minutes may grow later: the plan has no end."""
    own = {"voices": options.voices} if options.voices != "shared" else {}  # as corpora without the word had it
    return {"people": options.people, "size": options.size, "seed": options.seed} | own


def annotate(options: Options) -> list[str]:
    """Phase one: sound and truth of every clip. Returns a line for each clip that was left out."""
    root = options.out
    (root / "clips").mkdir(parents=True, exist_ok=True)
    (root / "people").mkdir(exist_ok=True)
    for leftover in (root / "clips").glob(".*.tmp"):  # of a run that was killed
        shutil.rmtree(leftover)
    about = _open_or_start(options)
    people = cast(options.people, options.seed)
    for person in people:
        write_text_atomic(root / "people" / f"{person.name}.json", person.to_json() + "\n")
    folders, unlabelled = open_folders(None if options.speech == "none" else Path(options.speech))
    write_text_atomic(root / "audio_only.txt", "".join(f"{p}\n" for p in unlabelled))
    kept, rejected = _fill(options, slots(people, folders, options.seed, options.voices == "own"))
    for clip_id in set(Corpus(root).ids()) - set(kept):  # made ahead by a worker, beyond the minutes asked for
        shutil.rmtree(root / "clips" / clip_id)
    about.update(count_minutes([read_clip(root / "clips" / k) for k in kept]), held_people=sorted(held_people(people)))
    about["rejected"] = rejected
    write_text_atomic(root / "corpus.json", json.dumps(about, indent=1) + "\n")
    return rejected


def _open_or_start(options: Options) -> dict:
    path = options.out / "corpus.json"
    settings = _settings(options)
    if path.exists():
        about = Corpus(options.out).about
        if about["settings"] != settings:
            raise ClipError(
                f"{options.out} holds a corpus made with {about['settings']}, now asked for with {settings}; "
                f"use the same arguments to go on, or another folder"
            )
        return about
    about = {"format": CORPUS_FORMAT, "settings": settings, "seed": options.seed, "fps": FPS, "split_rule": SPLIT_RULE}
    write_text_atomic(path, json.dumps(about, indent=1) + "\n")
    return about


_faces: dict[str, LandmarkModel] = {}
_job: tuple[Path, int, Path | None] | None = None


def _begin(root: Path, size: int, head_pack: Path | None) -> None:
    global _job
    _job = (root, size, head_pack)


def _one(slot: Slot) -> tuple[str, float, str]:
    """Makes a clip unless it is there: (id, seconds, reason why not)."""
    root, size, head_pack = _job
    folder = root / "clips" / slot.id
    try:
        if (folder / "clip.json").exists():
            return slot.id, read_clip(folder).info.frames / FPS, ""
        if slot.person not in _faces:
            person = Person.from_json((root / "people" / f"{slot.person}.json").read_text())
            _faces[slot.person] = LandmarkModel(load_pack(head_pack), person)
        return slot.id, make_clip(slot, _faces[slot.person], root, size).info.frames / FPS, ""
    except (SpeechError, AlignmentError) as error:
        where = slot.recording.path if slot.recording else f"{slot.voice.name} '{slot.text}'"
        return slot.id, 0.0, f"{where}: {error}"


def _fill(options: Options, plan: Iterator[Slot]) -> tuple[list[str], list[str]]:
    """Makes clips in the plan's order until the minutes are full: (ids kept, lines about those left out)."""
    wanted, seconds, failed = options.minutes * 60, 0.0, 0
    kept: list[str] = []
    rejected: list[str] = []
    arguments = (options.out, options.size, options.head_pack)
    with start_workers(options.workers, _begin, arguments) as pool, progress_bar() as bar:
        task = bar.add_task("sound and truth (s)", total=round(wanted), note="")
        ahead = deque(pool.submit(_one, slot) for slot in islice(plan, 16))
        while seconds < wanted and ahead:
            clip_id, duration, reason = ahead.popleft().result()
            ahead.extend(pool.submit(_one, slot) for slot in islice(plan, 1))
            if reason:
                if reason not in rejected:  # the same recording may come in another voice
                    rejected.append(reason)
                failed += 1
                if failed > 50 and not kept:
                    raise SpeechError(f"the first {failed} clips all failed; the last: {reason}")
                continue
            kept.append(clip_id)
            seconds += duration
            bar.update(task, completed=min(round(seconds), round(wanted)), note=f"{len(kept)} clips")
        pool.shutdown(cancel_futures=True)
    return kept, rejected


if __name__ == "__main__":
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # one process a core
        os.environ.setdefault(variable, "1")
    sys.exit(main(tyro.cli(Options)))
