"""Trains painter and turner of the frame decoder on the shipped people's rendered frames.

    python -m training.stages.composer --run.out runs/face --run.time-limit 60 --resume

The two learn side by side from different views of the same frames: the painter to turn the neutral still into the
frontal face with the frame's expression, the turner to turn stills that already wear the true face.
`best.safetensors` (+ .json) holds the averaged weights that drew the held-out frames best.
"""

from __future__ import annotations

import json
import sys
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from training.data.frames import FrameStore
from training.data.person_maps import STILL_POSES
from training.losses.image import edge_loss, over, pixel_loss, psnr, ssim
from training.models.blocks import feather
from training.models.composer import (
    PERSON_MAPS,
    Composer,
    ComposerConfig,
    assemble,
    paint_face,
    premultiply,
    read_stills,
    turn_stills,
)
from training.models.surface import Box, middles
from training.rig.pack import HeadPackError
from training.stages.face_story import earlier_training, keep, stretch_of
from training.stages.run import Run, RunOptions, StageError, read_config
from training.stages.stills import EYES_BOX, FACE_BOX, MOUTH_BOX, RANK, StillsConfig, chosen_people, prepare

HELD_OUT = 12  # first frames of each person, never trained on


@dataclass(frozen=True)
class ComposerStageConfig:
    """Options of the stage."""

    run: RunOptions = field(
        default_factory=lambda: RunOptions(
            out=Path("runs/face"), steps=6000, lr=2e-3, warmup_steps=50, ema_decay=0.998, threads=1
        )
    )
    people: str = "cast"
    """`cast` for the shipped four, or names of them with commas between."""
    frames: int = 400
    """Frames drawn of each person where they are not there yet."""
    corpus: Path | None = None
    workers: int = 2
    """Processes that draw frames."""
    draw: bool = True
    """Draw missing frames first; `--no-draw` trains on those that are there, while `training.stages.stills` draws more."""
    paint_batch: int = 4
    turn_batch: int = 2
    start: Path | None = None
    """A checkpoint (.safetensors) whose weights to begin from where names and shapes fit: for going on with other frames."""
    decided: bool = False
    """Train with the crisp choice between stills that is used later: for the last part of a training."""
    often: str = ""
    """A person who gets every other step, such as one who is new among others that were trained long."""
    check_every: int = 400
    """Steps between measurements on held-out frames."""


class PersonFrames:
    """One person's frames and stills as tensors; batches are functions of the indices alone."""

    def __init__(self, folder: Path, name: str, frames: int) -> None:
        self.store = FrameStore(folder / "frames" / name, frames, FACE_BOX)
        self.conditions = self.store.begin(None)
        self.stills = premultiply(_planes(read_stills(folder / "people" / name)))
        self.name = name

    def batch(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Indices [n] of frames to train on. Raises StageError where too few are drawn."""
        if self.store.done < HELD_OUT + n:
            raise StageError(
                f"{self.name}: expected {HELD_OUT + n} frames or more, found {self.store.done}; draw them first"
            )
        return np.sort(HELD_OUT + rng.choice(self.store.done - HELD_OUT, n, replace=False))

    def sense(self, index: np.ndarray) -> dict[str, Tensor]:
        """Conditions [B, ...] of the frames."""
        values = {name: torch.from_numpy(value[index]) for name, value in vars(self.conditions).items()}
        return values | {"blink": values["blink"][:, None]}

    def twins(self, index: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Frontal face boxes, premultiplied, the flow that makes them and where it is known."""
        known = torch.from_numpy(self.store.twin_known[index]).float()[:, None]
        flow = torch.from_numpy(self.store.twin_flow[index].astype(np.float32))
        return premultiply(_planes(self.store.twin[index])), flow, known

    def turned(self, index: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Turned pictures, premultiplied, offsets into each still, px, and where the still shows that point."""
        flow = torch.from_numpy(self.store.turned_flow[index].astype(np.float32) / 32)
        seen = torch.from_numpy(self.store.turned_seen[index]).float()
        return premultiply(_planes(self.store.turned[index])), flow, seen


def _planes(rgba: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(rgba)).permute(0, 3, 1, 2).float() / 255


class FaceObjective(nn.Module):
    """Loss of one person's batch: `paint_loss` in the face box, `turn_loss` in a window of the picture."""

    focus: Tensor

    def __init__(self, composer: Composer) -> None:
        super().__init__()
        self.composer = composer
        box = composer.box
        focus = torch.ones(1, 1, box.h, box.w)
        for patch, gain in ((composer.config.eyes_box, 6), (composer.config.mouth_box, 3)):
            p = Box(*patch).within(box)
            focus[:, :, p.y : p.y + p.h, p.x : p.x + p.w] += gain * feather(p.h, p.w, 12)
        self.register_buffer("focus", focus, persistent=False)
        size, n = composer.config.size, composer.config.grid
        self.register_buffer("middles", (middles(n, n).view(1, 1, 2, n, n) + 1) * size / 2 - 0.5, persistent=False)
        self.patches = composer.patches

    def forward(
        self, name: str, frames: PersonFrames, paint: np.ndarray, turn: np.ndarray, window: Box
    ) -> tuple[Tensor, dict[str, float]]:
        person = self.composer.derive(self.composer.person(name))
        painted, a = self.paint_loss(person, frames, paint)
        turned, b = self.turn_loss(person, frames, turn, window)
        return painted + turned, a | b

    def paint_loss(
        self, person: dict[str, Tensor], frames: PersonFrames, index: np.ndarray
    ) -> tuple[Tensor, dict[str, float]]:
        c = frames.sense(index)
        truth, true_flow, known = frames.twins(index)
        expression = self.composer.lids(c["expression"], c["gaze"], c["blink"])
        paint, flow, patches, _ = self.composer.painter(expression, c["gaze"], person)
        layers = {"paint": paint, "paint_flow": flow, **patches}
        face = paint_face(layers, frames.stills[:1], self.composer.box, self.patches)[:, :3]
        truth = truth[:, :3]
        pixels, lines = pixel_loss(face, truth, self.focus), edge_loss(face, truth, self.focus)
        drift = F.smooth_l1_loss(flow * known, true_flow * known)
        unlike = 1 - ssim(face, truth).mean()
        loss = 4 * pixels + 2 * lines + 0.3 * unlike + 0.05 * drift + 0.003 * paint[:, 3].mean()
        return loss, {"paint": pixels.item(), "flow_px": drift.item()}

    def turn_loss(
        self, person: dict[str, Tensor], frames: PersonFrames, index: np.ndarray, window: Box
    ) -> tuple[Tensor, dict[str, float]]:
        composer, c = self.composer, frames.sense(index)
        truth, offset, seen = frames.turned(index)
        expression = composer.lids(c["expression"], c["gaze"], c["blink"])
        _, moved = composer.painter.motion(expression, person["face_surface"], person["motion_mix"], person["motion"])
        grid, weight, gain = composer.turner(c["pose"], c["shift"], moved, person)
        box, face = composer.box, frames.twins(index)[0]
        frontal = frames.stills[:1].repeat(len(index), 1, 1, 1)
        frontal[:, :, box.y : box.y + box.h, box.x : box.x + box.w] = face
        stills = [frontal, *(frames.stills[k : k + 1] for k in range(1, len(frames.stills)))]
        frame = turn_stills(grid, weight, gain, stills, float(composer.config.size), window)
        x, y, w, h = (v * composer.config.size // composer.config.grid for v in astuple(window))
        truth = truth[:, :, y : y + h, x : x + w]
        pixels, lines, unlike = pixel_loss(frame, truth), edge_loss(frame, truth), 1 - ssim(frame, truth).mean()
        miss = (grid - self.middles - offset) / 4
        drift = (F.smooth_l1_loss(miss, torch.zeros_like(miss), reduction="none").mean(2) * seen).mean()
        anywhere = seen.amax(1)
        doubt = -(((weight * seen).sum(1) + 1e-3).log() * anywhere).mean()
        loss = 8 * pixels + 3 * lines + 0.5 * unlike + 0.05 * drift + 0.05 * doubt + 0.01 * (gain.log() ** 2).mean()
        loss = (
            loss + 0.03 * weight[:, 1:].sum(1).mean()
        )  # where it makes no difference, one still is cheaper than three
        return loss, {"turn": pixels.item(), "grid_4px": drift.item(), "unseen": doubt.item()}


class Judge:
    """Draws held-out frames whole, painter and turner together, and measures them over mid grey at 512 x 512."""

    def __init__(self, frames: dict[str, PersonFrames], composer: Composer) -> None:
        self.frames, self.composer = frames, composer

    @torch.no_grad()
    def __call__(self) -> dict[str, dict[str, float]]:
        table = {}
        for name, frames in self.frames.items():
            figures = []
            for i in range(HELD_OUT):
                figures.append(self._measure(name, frames, np.array([i])))
            table[name] = {key: round(float(np.mean([f[key] for f in figures])), 3) for key in figures[0]}
        return table

    def _measure(self, name: str, frames: PersonFrames, index: np.ndarray) -> dict[str, float]:
        composer, c = self.composer, frames.sense(index)
        layers = composer.draw(**c, person=composer.person(name))
        straight = _planes(composer.stills(name))
        drawn = assemble(layers, straight, composer.box, composer.patches)
        truth = frames.turned(index)[0]
        image, wanted = over(drawn, 0.5), over(truth, 0.5)
        box = composer.box
        face = over(paint_face(layers, frames.stills[:1], box, composer.patches), 0.5)
        twin = over(frames.twins(index)[0], 0.5)
        result = {"psnr": psnr(image, wanted), "ssim": ssim(image, wanted), "face_psnr": psnr(face, twin)}
        for region, patch in (("eyes", composer.config.eyes_box), ("mouth", composer.config.mouth_box)):
            p = Box(*patch).within(box)
            cut = np.s_[:, :, p.y : p.y + p.h, p.x : p.x + p.w]
            result[region + "_psnr"] = psnr(face[cut], twin[cut])
        return {key: float(value) for key, value in result.items()}


def build(config: ComposerStageConfig, out: Path) -> Composer:
    """A composer with the people's maps in it; talker and weights come later."""
    names = tuple(person.name for person in chosen_people(config.people))
    maps = {name: load_file(out / "people" / name / "maps.safetensors") for name in names}
    first = maps[names[0]]
    camera = tuple(tuple(row) for row in first["view_projection"].tolist()), tuple(first["pivot"].tolist())
    shape = ComposerConfig(names, FACE_BOX, EYES_BOX, MOUTH_BOX, STILL_POSES, *camera, rank=RANK)
    torch.manual_seed(config.run.seed)
    composer = Composer(shape)
    for i, name in enumerate(names):
        for key in PERSON_MAPS:
            getattr(composer, "maps_" + key)[i] = maps[name][key]
        composer.pictures[name] = read_stills(out / "people" / name)
    return composer


def begin_from(composer: Composer, checkpoint: Path) -> None:
    """Takes over all weights that fit. Raises StageError where none does."""
    mine, kept = composer.state_dict(), load_file(checkpoint)
    fit = {
        n: t.float() for n, t in kept.items() if n in mine and mine[n].shape == t.shape and not n.startswith("maps_")
    }
    if not fit:
        raise StageError(f"{checkpoint}: expected weights of a composer with these sizes, found none that fit")
    composer.load_state_dict(fit, strict=False)


def training_of(config: ComposerStageConfig, steps: int) -> list[dict[str, Any]]:
    """How the weights came about so far."""
    told = {"frames_a_person": config.frames, "every_other_step": config.often or "in turn"}
    images = steps * (config.paint_batch + config.turn_batch)
    return [*earlier_training(config.start), stretch_of(config.run, steps, images, **told)]


def window(rng: np.random.Generator, grid: int) -> Box:
    """Half of the picture's width and height, somewhere, in cells; not at the rim, where nothing is beyond to enlarge."""
    x, y = rng.integers(1, grid // 2, 2)
    return Box(int(x), int(y), grid // 2, grid // 2)


def whose_turn(people: tuple[str, ...], often: str, step: int) -> str:
    """All in turn, but `often` in every other step. Raises StageError for a name that is not among them."""
    if often and often not in people:
        raise StageError(f"--often: expected one of {', '.join(people)}; found {often}")
    if often and step % 2:
        return often
    return people[(step // 2 if often else step) % len(people)]


def score(table: dict[str, dict[str, float]]) -> float:
    """What `best` means: whole frames and faces, dB."""
    return float(np.mean([row["psnr"] + row["face_psnr"] for row in table.values()]))


def kept_score(out: Path) -> float:
    """Score of the best checkpoint of an earlier part of the run; -1 where there is none."""
    story = out / "best.json"
    return score(json.loads(story.read_text())["held_out"]) if story.is_file() else -1.0


def main(arguments: list[str] | None = None) -> None:
    config = read_config(ComposerStageConfig(), arguments)
    out = config.run.out
    if config.draw:
        prepare(StillsConfig(out, config.people, config.frames, config.corpus, config.workers, config.run.seed))
    composer = build(config, out)
    composer.painter.to(memory_format=torch.channels_last)  # 1.5 times as fast on a CPU
    composer.turner.to(memory_format=torch.channels_last)
    frames = {name: PersonFrames(out, name, config.frames) for name in composer.people}
    if config.start is not None:
        begin_from(composer, config.start)
    composer.turner.decided = config.decided
    objective = FaceObjective(composer)
    run = Run(objective, config, replace(config.run))
    averaged = build(config, out).eval()
    judge, best = Judge(frames, averaged), kept_score(out) if config.run.resume else -1.0
    console = Console(stderr=True)
    for step in run.steps("frames"):
        rng = np.random.default_rng([config.run.seed, step])
        name = whose_turn(composer.people, config.often, step)
        mine = frames[name]
        paint, turn = mine.batch(rng, config.paint_batch), mine.batch(rng, config.turn_batch)
        loss, scalars = run.objective(name, mine, paint, turn, window(rng, composer.config.grid))
        run.update(loss, scalars, len(paint) + len(turn), lambda name=name, step=step: f"{name}, step {step}")
        if run.step % config.check_every == 0 or run.step == config.run.steps:
            averaged.load_state_dict({n.removeprefix("composer."): t for n, t in run.averaged().items()}, strict=False)
            table = judge()
            run.metrics = {"held_out": table}
            console.print(f"step {run.step}: {table}")
            if score(table) > best:
                best = score(table)
                keep(run, averaged, table, training_of(config, run.step))


if __name__ == "__main__":
    try:
        main()
    except (StageError, HeadPackError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
