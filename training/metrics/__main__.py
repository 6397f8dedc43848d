"""The table of a pack: how like the truth its pictures are, and how well its lips keep step, on held-out clips.

python -m training.metrics cast.avatar corpora/main --split test
"""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from training.data.clip import Clip, ClipError, Corpus
from training.metrics.pack import MeasureError, measure, people_of, table
from training.rig.pack import HeadPackError, load_pack


@dataclass(frozen=True)
class Options:
    """Measures a pack on clips of a corpus and prints the table beside its targets."""

    pack: tyro.conf.Positional[Path]
    """Avatar pack, a folder."""
    corpus: tyro.conf.Positional[Path]
    """Corpus made by training.rig.corpus; its clips need no pixels."""
    split: Literal["train", "val", "test", "held_voice", "held_person"] = "test"
    voices: Literal["real", "synthetic", "all"] = "real"
    clips: int = 40
    """Most clips to render; clips of people whom the pack knows come first."""
    picture_clips: int = 8
    """Clips whose pictures are compared with the rig's drawing of the truth."""
    every: int = 5
    """Of those, each so-manyth frame."""
    head_pack: Path | None = None
    backend: str = "auto"
    json_out: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Also write the figures here."""


TARGETS: dict[str, tuple[str, str, float, float]] = {  # name -> (words, target in words, least, most)
    "psnr_db": ("PSNR, dB", ">= 30", 30.0, math.inf),
    "ssim": ("SSIM", ">= 0.93", 0.93, 1.0),
    "mouth_lmd": ("M-LMD, px at 256", "<= 1.5", 0.0, 1.5),
    "face_lmd": ("F-LMD, px at 256", "<= 1.5", 0.0, 1.5),
    "aperture_r": ("aperture, r with the truth", ">= 0.85", 0.85, 1.0),
    "closure_recall": ("M B P shut within 40 ms", ">= 0.90", 0.90, 1.0),
    "lag_frames": ("best lag, frames", "0 +- 1", -1.0, 1.0),
    "labial_auc": ("AUC of M B P", ">= 0.88", 0.88, 1.0),
}


def choose(options: Options) -> list[Clip]:
    clips = Corpus(options.corpus).split(options.split)
    if options.voices != "all":
        clips = [clip for clip in clips if clip.info.real_voice == (options.voices == "real")]
    if not clips:
        raise MeasureError(f"{options.corpus}: no clips of split {options.split} with {options.voices} voices")
    known = people_of(options.pack)
    return sorted(clips, key=lambda clip: clip.info.person.lower() not in known)[: options.clips]


def show(figures: dict[str, float], options: Options) -> Table:
    out = Table(title=f"{options.pack.name} on {options.corpus.name}, {options.split}, {options.voices} voices")
    for column in ("figure", "found", "target", ""):
        out.add_column(column, justify="right" if column == "found" else "left")
    for name, (words, wanted, least, most) in TARGETS.items():
        if options.split == "held_voice" and name == "labial_auc":
            wanted, least = ">= 0.80", 0.80
        value = figures.get(name)
        if value is None:
            out.add_row(words, "-", wanted, "no pictures compared")
        else:
            out.add_row(words, f"{value:.3f}", wanted, "yes" if least <= value <= most else "NO")
    for name in ("aperture_r_clip_median", "truth_labial_auc", "clips", "pictures"):
        if name in figures:
            out.add_row(name, f"{figures[name]:.3f}".rstrip("0").rstrip("."), "", "")
    return out


def main(options: Options) -> None:
    head = load_pack(options.head_pack)
    clips = choose(options)
    results = []
    columns = TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TextColumn("clips"), TimeRemainingColumn()
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        for result in bar.track(
            measure(options.pack, clips, head, options.picture_clips, options.every, options.backend), total=len(clips)
        ):
            results.append(result)
    figures = table(results)
    Console().print(show(figures, options))
    if options.json_out:
        part = options.json_out.with_name(options.json_out.name + ".part")
        part.write_text(json.dumps(figures, indent=1) + "\n")
        os.replace(part, options.json_out)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except (MeasureError, ClipError, HeadPackError, OSError) as error:
        sys.exit(f"error: {error}")
