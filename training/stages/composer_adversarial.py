"""The `live` preset of Speech2Video's losses: sharpens the shipped frame decoder against three judges (eqs. 4-10).

    python -m training.stages.composer_adversarial --start runs/face2 --run.out runs/face2_adv
    python -m training.stages.composer_adversarial --start runs/face2 --without d_id d_fr d_sync similar grad \\
        --run.out runs/face2_more                                              # the control: as long, without judges

Begins from a run of training.stages.composer and keeps its blocks, its objective and its frames. The identity branch is
the turner: maps of the speaker's stills, warped by pose. Besides the composer's own batch, each step draws a few frames
whole, painter and turner together, and these are judged: D_fr sees a part of the picture, D_id what VGG makes of it
beside another true frame of the same person, D_sync the lower face beside the expression that it was asked for, for the
frames are drawn from expressions and not from sound. Eqs. 8 and 9 are taken on the same frames.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from training.losses import speech2video as eq
from training.losses.image import edges, over
from training.models.composer import Composer, assemble, load_composer, paint_face, turn_stills
from training.models.speech2video.composer import IDENTITY_SIDES
from training.models.speech2video.discriminators import Discriminators
from training.models.speech2video.vgg import VggFace
from training.models.surface import Box
from training.rig.pack import HeadPackError
from training.stages.composer import HELD_OUT, FaceObjective, Judge, PersonFrames, window
from training.stages.face_story import earlier_training, keep, stretch_of
from training.stages.run import Run, RunOptions, StageError, read_config, write_json
from training.stages.speech2video import held
from training.stages.teachers import load_teachers

PARTS = ("d_id", "d_fr", "d_sync", "similar", "grad")


@dataclass(frozen=True)
class AdversarialConfig:
    """Options of the stage."""

    start: Path = Path("runs/face2")
    """Run of training.stages.composer to begin from; its people and frames are used."""
    teachers: Path = Path("runs/teachers")
    """Run of training.stages.teachers, whose VGG gives the identity maps."""
    without: tuple[str, ...] = ()
    """What to leave out: d_id, d_fr, d_sync, similar (eq. 8), grad (eq. 9)."""
    paint_batch: int = 2
    turn_batch: int = 1
    judged: int = 2
    """Frames of a step that are drawn whole and judged."""
    adversarial_weight: float = 0.1
    similarity_weight: float = 5.0
    gradient_weight: float = 10.0
    judges_rate: float = 4.0
    """Learning rate of the judges relative to the decoder's, which knows its trade already."""
    judges_first: int = 60
    """Steps in which the judges learn alone, before they have a say; it then grows over as many again."""
    check_every: int = 200
    run: RunOptions = field(
        default_factory=lambda: RunOptions(
            out=Path("runs/face2_adv"), steps=600, lr=3e-4, warmup_steps=20, ema_decay=0.99, threads=1
        )
    )


@dataclass(frozen=True)
class Drawn:
    """Frames drawn whole and what they should be, over mid grey: part of the picture `[B, 3, 256, 256]`, frontal face
    `[B, 3, h, w]`, the expression asked for `[B, 1, 60]`.
    """

    part: Tensor
    true_part: Tensor
    face: Tensor
    true_face: Tensor
    expression: Tensor


class AdversarialObjective(nn.Module):
    """The composer's own loss, eqs. 7-9 for it and eqs. 4-6 for the judges: one backward pass for all."""

    def __init__(self, composer: Composer, vgg: VggFace, config: AdversarialConfig) -> None:
        super().__init__()
        self.base = FaceObjective(composer)
        widths = vgg.map_widths(IDENTITY_SIDES[-1] * 2, IDENTITY_SIDES)
        self.judges = Discriminators(60, widths, IDENTITY_SIDES, composer.box.w)
        self.config, self._vgg = config, (vgg,)  # not a part of what is trained or kept

    def forward(
        self,
        name: str,
        frames: PersonFrames,
        paint: np.ndarray,
        turn: np.ndarray,
        judged: np.ndarray,
        place: Box,
        say: float,
    ) -> tuple[Tensor, dict[str, float]]:
        """`judged [2B]`: frames to draw, and as many other true ones of the same person; `say` 0..1 is the judges'."""
        loss, terms = self.base(name, frames, paint, turn, place)
        if set(self.config.without) >= set(PARTS):
            return loss, terms
        half = len(judged) // 2
        drawn = self.draw(name, frames, judged[:half], place)
        other = over(part_of(frames.turned(judged[half:])[0], place, self.base.composer), 0.5)
        with held(self.judges):
            loss = loss + self.generator_loss(drawn, terms, say)
        return loss + self.judges_loss(drawn, other, terms), terms

    def draw(self, name: str, frames: PersonFrames, index: np.ndarray, place: Box) -> Drawn:
        composer, c = self.base.composer, frames.sense(index)
        layers = composer.draw(**c, person=composer.person(name))
        box = composer.box
        face = paint_face(layers, frames.stills[:1], box, composer.patches)
        frontal = frames.stills[:1].repeat(len(index), 1, 1, 1)
        frontal[:, :, box.y : box.y + box.h, box.x : box.x + box.w] = face
        stills = [frontal, *(frames.stills[k : k + 1] for k in range(1, len(frames.stills)))]
        part = turn_stills(layers["grid"], layers["weight"], layers["gain"], stills, float(composer.config.size), place)
        true_part = part_of(frames.turned(index)[0], place, composer)
        asked = layers["expression"].detach()[:, None]
        return Drawn(over(part, 0.5), over(true_part, 0.5), over(face, 0.5), over(frames.twins(index)[0], 0.5), asked)

    def generator_loss(self, drawn: Drawn, terms: dict[str, float], say: float) -> Tensor:
        """Eqs. 7, 8 and 9, weighted."""
        config, scores = self.config, []
        if "d_id" not in config.without:
            scores.append(torch.cat(self.judges.identity(self.maps(drawn.part))))
        if "d_fr" not in config.without:
            scores.append(self.judges.frame(drawn.part))
        if "d_sync" not in config.without:
            scores.append(self.judges.sync(drawn.expression, square(drawn.face)))
        loss = drawn.face.new_zeros(())
        if scores:
            fooled = eq.generator_adversarial(*scores)
            terms["fooled"] = float(fooled.detach())
            loss = loss + say * config.adversarial_weight * fooled
        if "similar" not in config.without:
            loss = loss + config.similarity_weight * eq.similarity(drawn.face, drawn.true_face)
        if "grad" not in config.without:
            sharp = eq.gradient(drawn.face, drawn.true_face) + eq.gradient(drawn.part, drawn.true_part)
            loss = loss + config.gradient_weight * sharp
        return loss

    def judges_loss(self, drawn: Drawn, other: Tensor, terms: dict[str, float]) -> Tensor:
        """Eqs. 4, 5 and 6; a mismatched pair is a true face beside the expression of another frame."""
        judges, without, losses = self.judges, self.config.without, {}
        if "d_id" not in without:
            with torch.no_grad():
                fake, real = self.maps(drawn.part.detach()), self.maps(other)
            losses["d_id"] = eq.identity_adversarial(judges.identity(fake), judges.identity(real))
        if "d_fr" not in without:
            losses["d_fr"] = eq.frame_adversarial(judges.frame(drawn.part.detach()), judges.frame(drawn.true_part))
        if "d_sync" not in without:
            true, asked = square(drawn.true_face), drawn.expression
            losses["d_sync"] = eq.sync_adversarial(
                judges.sync(asked, true),
                judges.sync(asked.roll(1, 0), true),
                judges.sync(asked, square(drawn.face.detach())),
            )
        terms |= {name: float(loss.detach()) for name, loss in losses.items()}
        return torch.stack(list(losses.values())).sum() if losses else drawn.face.new_zeros(())

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """VGG's maps with sides 8, 16 and 32."""
        size = IDENTITY_SIDES[-1] * 2
        small = F.interpolate(pictures, (size, size), mode="bilinear", antialias=True)
        maps: list[Tensor] = self._vgg[0].maps(small, IDENTITY_SIDES)
        return maps


def square(face: Tensor) -> Tensor:
    """The middle rows of a face `[B, 3, h, w]`, as many as it has columns: their lower half holds the mouth."""
    spare = face.shape[2] - face.shape[3]
    return face[:, :, spare // 2 : spare // 2 + face.shape[3]]


def part_of(pictures: Tensor, place: Box, composer: Composer) -> Tensor:
    """The place, in cells, of whole pictures `[B, 4, S, S]`."""
    x, y, w, h = (v * composer.config.size // composer.config.grid for v in astuple(place))
    return pictures[:, :, y : y + h, x : x + w]


def frames_of(folder: Path, name: str) -> PersonFrames:
    """A person's frames as the run left them. Raises StageError where there are none."""
    path = folder / "frames" / name / "twin.npy"
    if not path.is_file():
        raise StageError(f"{path}: expected frames of training.stages.composer, found none; name that run with --start")
    return PersonFrames(folder, name, len(np.load(path, mmap_mode="r")))


def crispness(composer: Composer, frames: dict[str, PersonFrames]) -> dict[str, float]:
    """Edges that are drawn over edges that are true, on held-out frames: 1 is as crisp as the truth."""
    found: dict[str, list[float]] = {"eyes": [], "mouth": []}
    for name, mine in frames.items():
        index = np.arange(HELD_OUT)
        with torch.no_grad():
            layers = composer.draw(**mine.sense(index), person=composer.person(name))
            face = over(paint_face(layers, mine.stills[:1], composer.box, composer.patches), 0.5)
        true = over(mine.twins(index)[0], 0.5)
        for key, patch in composer.patches.items():
            p = patch.within(composer.box)
            cut = np.s_[:, :, p.y : p.y + p.h, p.x : p.x + p.w]
            drawn_edges, true_edges = (float(sum(e.abs().mean() for e in edges(x[cut]))) for x in (face, true))
            found[key].append(drawn_edges / true_edges)
    return {f"{key}_crispness": round(float(np.mean(values)), 3) for key, values in found.items()}


def measure(composer: Composer, frames: dict[str, PersonFrames]) -> dict[str, dict[str, float]]:
    """Held-out PSNR and SSIM by person, as training.stages.composer has them, and crispness of all."""
    return Judge(frames, composer)() | {"all": crispness(composer, frames)}


def save_strips(out: Path, rows: list[Composer], frames: dict[str, PersonFrames], count: int = 3) -> None:
    """Held-out frames at full size, `OUT/<person>.png`: a row for each composer, the truth below."""
    out.mkdir(parents=True, exist_ok=True)
    for name, mine in frames.items():
        index = np.argsort(-mine.conditions.expression[:HELD_OUT].sum(1))[:count]  # the liveliest
        pictures = []
        for composer in rows:
            with torch.no_grad():
                layers = composer.draw(**mine.sense(index), person=composer.person(name))
                straight = torch.from_numpy(composer.stills(name)).permute(0, 3, 1, 2).float() / 255
                pictures.append(over(assemble(layers, straight, composer.box, composer.patches), 0.5))
        pictures.append(over(mine.turned(index)[0], 0.5))
        sheet = torch.cat([torch.cat(list(row), 2) for row in pictures], 1).clamp(0, 1)
        rgb = np.round(255 * sheet.permute(1, 2, 0).numpy()).astype(np.uint8)
        cv2.imwrite(str(out / f"{name}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def main(arguments: list[str] | None = None) -> None:
    config = read_config(AdversarialConfig(), arguments)
    if unknown := set(config.without) - set(PARTS):
        raise StageError(f"--without: expected some of {', '.join(PARTS)}, found {', '.join(sorted(unknown))}")
    torch.manual_seed(config.run.seed)
    torch.set_num_threads(config.run.threads)
    out, console = config.run.out, Console(stderr=True)
    composer, averaged = load_composer(config.start), load_composer(config.start)
    frames = {name: frames_of(config.start, name) for name in composer.people}
    out.mkdir(parents=True, exist_ok=True)
    shutil.copytree(config.start / "people", out / "people", dirs_exist_ok=True)
    before = measure(averaged, frames)
    console.print(f"start: {before}")
    vgg = load_teachers(config.teachers)[0].identity
    composer.train()
    composer.painter.to(memory_format=torch.channels_last)  # 1.5 times as fast on a CPU
    composer.turner.to(memory_format=torch.channels_last)
    composer.turner.decided = True  # as it is used
    objective = AdversarialObjective(composer, vgg, config)
    run = Run(objective, config, replace(config.run), groups={"judges.": config.judges_rate})
    for step in run.steps("frames"):
        rng = np.random.default_rng([config.run.seed, step])
        name = composer.people[step % len(composer.people)]
        mine = frames[name]
        paint, turn = mine.batch(rng, config.paint_batch), mine.batch(rng, config.turn_batch)
        judged = rng.permutation(mine.batch(rng, 2 * config.judged))
        say = min(1.0, max(0.0, step / max(config.judges_first, 1) - 1))
        loss, terms = run.objective(name, mine, paint, turn, judged, window(rng, composer.config.grid), say)
        amount = len(paint) + len(turn) + config.judged
        run.update(loss, terms, amount, lambda name=name, step=step: f"{name}, step {step}")
        if run.step % config.check_every == 0 or run.step == config.run.steps:
            take_over(averaged, run)
            after = measure(averaged, frames)
            console.print(f"step {run.step}: {after}")
            run.metrics = {"before": before, "after": after}
            images = run.step * (config.paint_batch + config.turn_batch + config.judged)
            runs = [*earlier_training(config.start / "best.safetensors"), stretch_of(config.run, run.step, images)]
            keep(run, averaged, after, runs)
            write_json(out / "figures.json", run.metrics)
    take_over(averaged, run)
    save_strips(out / "strips", [load_composer(config.start), averaged], frames)


def take_over(composer: Composer, run: Run) -> None:
    """The run's averaged weights into a composer that draws."""
    prefix = "base.composer."
    kept = {name.removeprefix(prefix): leaf for name, leaf in run.averaged().items() if name.startswith(prefix)}
    composer.load_state_dict(kept, strict=False)
    composer.eval()


if __name__ == "__main__":
    try:
        main()
    except (StageError, HeadPackError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
