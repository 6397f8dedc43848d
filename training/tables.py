"""The published tables in form, measured on our corpus: one command a table.

    python -m training.tables speech2video                  # every system trained so far
    python -m training.tables speech2video --ablations      # the same without one part each

All systems draw the same runs of frames of the test sentences; SSIM and PSNR are at the runs' size, AV confidence (LSE-C)
comes from the SyncNet that was trained on this corpus, with the truth's own beside it. The budget of images of every
system is printed with it. The paper's own figures stand below, from other data sets: they are no measure of ours.
`OUT` gets the table as JSON and side-by-side strips, each system's frames over the truth.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from training.data.clip import Clip, ClipError, Corpus
from training.data.face_runs import FaceRuns, Run, load_runs, small
from training.data.mouths import Boxes, cut_mouth, mouth_boxes
from training.metrics.image import over_grey, psnr, ssim
from training.models.speech2video.published import WeightsError
from training.models.speech2video.syncnet import Mfcc, Synchrony, distances, synchrony
from training.stages.run import StageError, write_json
from training.stages.speech2video import draw, load_material, load_run, save_strip
from training.stages.syncnet import as_mouths, cepstra_of, load_judge

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
Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class TableConfig:
    """Which table, of what."""

    table: tyro.conf.Positional[Literal["speech2video"]]
    runs: Path = Path("corpora/runs128")
    """Runs of training.data.face_runs, frames in a row."""
    corpus_folders: tuple[Path, ...] = (Path("corpora/voices"),)
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


@dataclass(frozen=True)
class Row:
    """One system: figures, how many images it learned from, and what it was shown besides the voice."""

    system: str
    given: str
    images: int
    ssim: float
    psnr_db: float
    lse_c: float
    lse_d: float
    runs: int
    in_time: float = 0.0
    """Share of runs whose offset SyncNet finds within a frame of 0; of the truth, it says what AV confidence is worth."""


@dataclass
class Judge:
    """Measures runs of pictures against their truth, and mouths against their sound.

    Mouths are cut where the truth has them, for every system: `boxes` are those of all frames of a clip.
    """

    net: torch.nn.Module
    side: int
    sounds: dict[str, Tensor] = field(default_factory=dict)
    boxes: dict[str, Boxes] = field(default_factory=dict)

    def sync(self, pictures: Pictures, run: Run) -> Synchrony:
        boxes = self.boxes[run.clip][run.first : run.first + len(pictures)]
        mouths = np.stack([cut_mouth(picture, box, self.side) for picture, box in zip(pictures, boxes)])
        return synchrony(distances(self.net, as_mouths(mouths), self.sounds[run.clip], run.first))

    def row(self, system: str, given: str, images: int, drawn: Sequence[tuple[Run, Pictures, Pictures]]) -> Row:
        """Means over runs; `drawn` holds the run, what the system drew of it, and the truth."""
        alike = [ssim(a / 255.0, b / 255.0) for _, x, y in drawn for a, b in zip(x, y)]
        noise = [min(psnr(a / 255.0, b / 255.0), 100.0) for _, x, y in drawn for a, b in zip(x, y)]
        found = [self.sync(x, run) for run, x, _ in drawn]
        return Row(
            system, given, images, float(np.mean(alike)), float(np.mean(noise)),
            float(np.mean([f.confidence for f in found])), float(np.mean([f.distance for f in found])), len(drawn),
            float(np.mean([abs(f.offset) <= 1 for f in found])),
        )  # fmt: skip


def as_tensor(pictures: Pictures) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float() / 255.0


def as_pictures(tensor: Tensor) -> Pictures:
    rgb: Pictures = np.round(255 * tensor.clamp(0, 1).permute(0, 2, 3, 1).numpy()).astype(np.uint8)
    return rgb


def truth_of(runs: FaceRuns, index: int) -> Pictures:
    return np.asarray(runs.pixels[index])


def held_stills(runs: FaceRuns, mismatch: bool) -> list[tuple[Run, Pictures, Pictures]]:
    """A picture that never moves: the first of the run, or of the next person's (for a feeling of the scale)."""
    out = []
    for i, run in enumerate(runs.runs):
        others = [j for j, other in enumerate(runs.runs) if other.person != run.person]
        source = others[(7 * i) % len(others)] if mismatch and others else i
        still = np.repeat(truth_of(runs, source)[:1], runs.frames, 0)
        out.append((run, still, truth_of(runs, i)))
    return out


def drawn_by_run(folder: Path, limit: int) -> tuple[list[tuple[Run, Pictures, Pictures]], int]:
    """What a run of training.stages.speech2video draws of the test sentences, and how many images it learned from."""
    objective, config, step = load_run(folder)
    data = load_material(config, "test")
    count = min(limit or len(data.runs.runs), len(data.runs.runs))
    drawn = [
        (data.runs.runs[i], as_pictures(draw(objective.composer, data, i)), truth_of(data.runs, i))
        for i in range(count)
    ]
    return drawn, step * config.batch


def drawn_by_pack(
    pack: Path, runs: FaceRuns, clips: dict[str, Clip], count: int, size: int, say: Callable[[str], None]
) -> Iterator[tuple[Run, Pictures, Pictures]]:
    """What the engine draws of a pack's people who play the runs, and the rig's drawing of the same people as truth.

    The pack is given voice, head pose, gaze, blink and mood of the truth, as an actor's curves; the mouth is its own.
    """
    from training.metrics.pack import draw as engine_draws
    from training.metrics.pack import people_of, played_by
    from training.rig.drawing import SUPERSAMPLE
    from training.rig.renderer import Renderer

    people = people_of(pack)
    renderer: Renderer | None = None
    for number, run in enumerate(runs.runs[:count]):
        name, person = played_by(clips[run.clip], number, people)
        if person is None:
            raise StageError(f"{pack}: the rig knows nobody called {name}, so there is no truth to compare with")
        say(f"{name} plays {run.clip}")
        truth = clips[run.clip].truth()
        at = range(run.first, run.first + runs.frames)
        with tempfile.TemporaryDirectory() as folder:
            files = engine_draws(pack, clips[run.clip], name, Path(folder)).pictures
            drawn = [_small(files[k], size) for k in at]
        renderer = renderer or Renderer(size, SUPERSAMPLE)
        if getattr(renderer, "person", None) != person:
            renderer.set_person(person)
        true = [
            small(
                renderer.render(
                    truth.expression[k], truth.pose[k], truth.shift[k], truth.gaze[k], float(truth.blink[k])
                ),
                size,
            )
            for k in at
        ]
        yield run, np.stack(drawn), np.stack(true)


def _small(path: Path, size: int) -> Pictures:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise StageError(f"{path}: the engine left no picture here")
    rgb = over_grey(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA))
    return np.round(255 * cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA)).astype(np.uint8)


def strips(out: Path, name: str, drawn: Sequence[tuple[Run, Pictures, Pictures]], rows: int = 3) -> None:
    """Every other frame of some runs, drawn above true, at full size."""
    step = max(1, len(drawn) // rows)
    for number, (run, ours, true) in enumerate(drawn[::step][:rows]):
        save_strip(out / f"{name}_{number}_{run.person}.png", [as_tensor(ours)[::2], as_tensor(true)[::2]])


def judge_of(config: TableConfig, runs: FaceRuns) -> Judge:
    """SyncNet, with sound and mouths' places of the runs' clips. Raises StageError for a clip that no corpus holds."""
    judge, wanted, extract = Judge(*load_judge(config.syncnet)), {run.clip for run in runs.runs}, Mfcc()
    for folder in config.corpus_folders:
        for clip in Corpus(folder):
            if clip.info.id in wanted and clip.info.id not in judge.sounds:
                judge.sounds[clip.info.id] = cepstra_of(clip, extract)
                judge.boxes[clip.info.id] = mouth_boxes(clip.truth().landmarks, clip.info.size)
    if missing := wanted - set(judge.sounds):
        raise StageError(f"no corpus named with --corpus-folders holds clip {sorted(missing)[0]}, which has pictures")
    return judge


def speech2video(config: TableConfig, say: Callable[[str], None]) -> list[Row]:
    """All rows; strips are saved on the way. Raises StageError where nothing is trained."""
    runs = load_runs(config.runs).of("test")
    if config.limit:
        runs = replace(runs, runs=runs.runs[: config.limit], pixels=runs.pixels[: config.limit])
    judge = judge_of(config, runs)
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
    pack = config.pack or Path(__file__).parent.parent / "engine" / "assets" / "cast.avatar"
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


def images_of(pack: Path) -> int:
    """How many pictures the pack's face learned from, by its manifest; 0 where it does not say."""
    try:
        face = json.loads((pack / "manifest.json").read_text())["provenance"]["face"]
        options = face.get("options", {}) or face.get("config", {})
        each = int(options.get("paint_batch", 0)) + int(options.get("turn_batch", 0))
        return int(face.get("step", face.get("steps", 0))) * each
    except (OSError, KeyError, ValueError, AttributeError, TypeError):
        return 0


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
    sys.exit(main(tyro.cli(Annotated[TableConfig, tyro.conf.arg(name="")])))
