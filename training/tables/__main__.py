"""The published tables in form, measured on our corpus: one command a table.

    python -m training.tables speech2video                  # every system trained so far
    python -m training.tables speech2video --ablations      # the same without one part each

All systems draw the same runs of frames of the test sentences; SSIM and PSNR are at the runs' size, AV confidence (LSE-C)
comes from the SyncNet that was trained on this corpus, with the truth's own beside it. The budget of images of every
system is printed with it. The paper's own figures stand below, from other data sets: they are no measure of ours.
`OUT` gets the table as JSON and side-by-side strips, each system's frames over the truth.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from training.data.clip import ClipError, Corpus
from training.data.face_runs import FaceRuns, load_runs
from training.models.speech2video.published import WeightsError
from training.stages.run import StageError, write_json
from training.tables.drawn import drawn_by_pack, drawn_by_run, held_stills, images_of, truth_of
from training.tables.judge import Judge, Row, judge_of, strips

PAPER = {
    "CREMA-D": {
        "SDFA": (0.705, 23.568, 5.4),
        "S2F+SDFA": (0.519, 20.104, 4.9),
        "SDFA(mismatch)": (0.521, 20.024, 5.0),
        "speech2video": (0.541, 20.540, 5.1),
    },
    "VoxCeleb2": {
        "SDFA": (0.7342, 25.121, 5.8),
        "S2F+SDFA": (0.5643, 20.413, 4.9),
        "SDFA(mismatch)": (0.5612, 20.126, 5.0),
        "speech2video": (0.5707, 20.891, 5.1),
    },
}
ABLATIONS = ("d_id", "d_fr", "d_sync", "grad", "identity", "judges")  # judges: all three at once


@dataclass(frozen=True)
class TableConfig:
    """Which table, of what."""

    table: tyro.conf.Positional[Literal["speech2video"]]
    runs: Path = Path("corpora/runs128")
    """Runs of training.data.face_runs, frames in a row."""
    corpus_folders: tuple[Path, ...] = (Path("corpora/voices_own"),)
    syncnet: Path = Path("runs/syncnet")
    """Run folder of training.stages.syncnet, or published SyncNet weights."""
    trained: Path = Path("runs")
    """Folder of run folders: `speech2video`, and `speech2video_no_<part>` for the ablations."""
    pack: Path | None = None
    """An avatar pack to measure too; without it, the one that ships with Mouthpiece."""
    pack_runs: int = 4
    """Runs that the pack draws: it draws whole clips at full size, which takes time; 0 leaves it out."""
    ablations: bool = False
    limit: int = 0
    """Test runs at most; 0 is all."""
    out: Path = Path("runs/tables/speech2video")


def speech2video(config: TableConfig, say: Callable[[str], None]) -> list[Row]:
    """All rows; strips are saved on the way. Raises StageError where nothing is trained."""
    runs = load_runs(config.runs).of("test")
    if config.limit:
        runs = replace(runs, runs=runs.runs[: config.limit], pixels=runs.pixels[: config.limit])
    judge = judge_of(config.syncnet, config.corpus_folders, runs)
    true = [(run, truth_of(runs, i), truth_of(runs, i)) for i, run in enumerate(runs.runs)]
    rows = [judge.row("ground truth", "-", 0, true)]
    if not config.ablations:
        rows.append(judge.row("a still that never moves", "the first frame", 0, held_stills(runs, False)))
        rows.append(judge.row("another person's still", "a wrong picture", 0, held_stills(runs, True)))
    names = [""] if not config.ablations else ["", *(f"_no_{part}" for part in ABLATIONS)]
    for name in names:
        folder = config.trained / f"speech2video{name}"
        if not (folder / "model.json").is_file():
            say(f"{folder}: not trained yet, left out")
            continue
        drawn, images = drawn_by_run(folder, config.limit)
        label = f"speech2video without {name.removeprefix('_no_')}" if name else "speech2video (paper preset)"
        rows.append(judge.row(label, "the voice alone", images, drawn))
        strips(config.out, folder.name, drawn)
    if not config.ablations and config.pack_runs:
        rows += _pack_rows(config, runs, judge, say)
    return rows


def _pack_rows(config: TableConfig, runs: FaceRuns, judge: Judge, say: Callable[[str], None]) -> list[Row]:
    # the pack that ships, found by its place: training knows nothing of the engine's modules
    pack = config.pack or Path(__file__).parents[2] / "engine" / "assets" / "cast.avatar"
    if not (pack / "manifest.json").is_file():
        say(f"{pack}: expected an avatar pack, found none; it is left out of the table (name one with --pack)")
        return []
    clips = {clip.info.id: clip for folder in config.corpus_folders for clip in Corpus(folder)}
    drawn = list(drawn_by_pack(pack, runs, clips, config.pack_runs, runs.size, say))
    strips(config.out, "pack", drawn)
    true = [(run, y, y) for run, _, y in drawn]
    given = "stills; pose, gaze, blink and mood of the truth"
    images = images_of(pack)
    return [
        judge.row(f"pack {pack.name}, played by its own people", given, images, drawn),
        judge.row("the rig's truth of the same people", "-", 0, true),
    ]


def as_text(rows: Sequence[Row], size: int) -> str:
    """The table for people."""
    head = f"{'system':44} {'SSIM':>6} {'PSNR':>7} {'LSE-C':>6} {'LSE-D':>6} {'in time':>7} {'images':>8} {'runs':>5}  beside sound"
    lines = [f"Ours, {size} x {size}, test sentences of our corpus", head]
    for row in rows:
        noise = "-" if row.psnr_db >= 99 else f"{row.psnr_db:.2f}"
        lines.append(
            f"{row.system:44} {row.ssim:6.3f} {noise:>7} {row.lse_c:6.3f} {row.lse_d:6.3f} {row.in_time:7.2f} {row.images or '-':>8} "
            f"{row.runs:5d}  {row.given}"
        )
    if rows[0].in_time < 0.5:
        lines.append(
            f"SyncNet finds only {rows[0].in_time:.2f} of the truth in time (chance 0.10): its confidences say little yet; "
            "train it on more runs."
        )
    budgets = sorted({row.images for row in rows if row.images})
    if budgets:
        even = "the same for all" if len(budgets) == 1 else "not the same for all"
        words = ", ".join(map(str, budgets))
        lines.append(f"Budget of images: {words} ({even}). On CPUs; the paper trains 100 epochs on a V100.")
    lines.append("")
    lines.append("The paper's own figures, from other data sets, other faces and another SyncNet: no measure of ours")
    for data, systems in PAPER.items():
        for name, (a, b, c) in systems.items():
            lines.append(f"{data + ': ' + name:44} {a:6.3f} {b:7.2f} {c:6.1f}")
    return "\n".join(lines)


def main(config: TableConfig) -> int:
    try:
        torch.set_num_threads(1)
        rows = speech2video(config, lambda line: print(line, file=sys.stderr, flush=True))
        size = load_runs(config.runs).size
        config.out.mkdir(parents=True, exist_ok=True)
        name = "ablations" if config.ablations else "table"
        write_json(config.out / f"{name}.json", {"size": size, "rows": [vars(row) for row in rows], "paper": PAPER})
        print(as_text(rows, size))
        print(f"strips in {config.out}")
    except (StageError, ClipError, WeightsError, ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Annotated[TableConfig, tyro.conf.arg(name="")], prog="python -m training.tables")))
