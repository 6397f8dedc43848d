"""Trains the frame decoder of Speech2Video against its three judges (eqs. 4-10), on students that are trained already.

    python -m training.stages.speech2video --runs corpora/runs128 --reader runs/voice_reader --teachers runs/teachers \\
        --audio runs/audio --run.out runs/speech2video
    python -m training.stages.speech2video --without d_sync --run.out runs/speech2video_no_d_sync      # an ablation

The `paper` preset is the default: 128 x 128, RMSProp, 3e-4 for F and D_id, 1e-4 for D_fr, 1e-5 for D_sync. Discriminators
and generator step together from one backward pass; each sees the other held fixed. `frames/` gets sample frames beside
the truth. `--without` leaves out d_id, d_fr, d_sync, grad (eq. 9) or identity (the branch of nu).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from training.data.clip import ClipError, Corpus
from training.data.face_runs import FaceRuns, load_runs
from training.data.heard import described, hear_whole
from training.data.usual import read_voice
from training.losses import speech2video as eq
from training.models.cpc import AudioEncoder
from training.models.speech2video.composer import IDENTITY_SIDES, PaperComposer, PaperComposerConfig
from training.models.speech2video.discriminators import Discriminators
from training.models.speech2video.students import Students, load_students
from training.models.speech2video.vgg import VggFace
from training.models.talker import load_hearing
from training.stages.run import Run, RunOptions, StageError, read_config, write_tensors
from training.stages.teachers import load_teachers

PARTS = ("d_id", "d_fr", "d_sync", "grad", "identity")
STUDENTS = {"paper": "paper", "live": "best"}
RATES = {"judges.identity.": 1.0, "judges.frame.": 1 / 3, "judges.sync.": 1 / 30}
"""Learning rates relative to the generator's 3e-4."""


@dataclass(frozen=True)
class Speech2VideoConfig:
    """Adversarial training of the frame decoder."""

    runs: Path = Path("corpora/runs128")
    """Runs of training.data.face_runs, frames in a row."""
    corpus_folders: tuple[Path, ...] = (Path("corpora/voices_own"),)
    audio: Path = Path("runs/audio")
    reader: Path = Path("runs/voice_reader")
    """Run folder of training.stages.distil, whose students give mu and nu."""
    students: Literal["paper", "live"] = "live"
    """paper: on omega = c_T; live: on all omegas of the clip, and on how they are said."""
    teachers: Path = Path("runs/teachers")
    without: tuple[str, ...] = ()
    """What to leave out: d_id, d_fr, d_sync, grad, identity."""
    batch: int = 8
    lookahead_hops: int = 8
    """Contexts after the frame that are heard too, as in the shipped talker."""
    similarity_weight: float = 100.0
    gradient_weight: float = 100.0
    """Eqs. 8 and 9 are sums over pixels in the paper, means here; the weights bring them back above the judges. At 10 the
    frame judge drew patterns over forehead and eyes."""
    sample_every: int = 200
    shape: PaperComposerConfig = field(default_factory=lambda: PaperComposerConfig(context_hops=4))
    run: RunOptions = field(
        default_factory=lambda: RunOptions(
            out=Path("runs/speech2video"), steps=4000, lr=3e-4, optimiser="rmsprop", schedule="constant",
            warmup_steps=1, ema_decay=0.995, weight_decay=0.0, clip_norm=1e6,
        )
    )  # fmt: skip


@dataclass(frozen=True)
class Material:
    """Runs with what is heard at each of their frames: `contexts [n, hops, C]`, and `mu [6], nu [4096]` of each run."""

    runs: FaceRuns
    contexts: tuple[Tensor, ...]
    mu: Tensor
    nu: Tensor


def heard_at(contexts: Tensor, frames: Sequence[int], hops: int, lookahead: int) -> Tensor:
    """`[T, C] -> [len(frames), hops, C]`: hops 40 ms apart, the newest `lookahead` hops after each frame."""
    newest = torch.tensor([frame * 100 // 30 - 1 + lookahead for frame in frames])
    index = newest[:, None] - 4 * torch.arange(hops - 1, -1, -1)[None]
    return contexts[index.clamp(0, len(contexts) - 1)] * (index >= 0)[..., None]


def gather(
    runs: FaceRuns, corpora: Sequence[Path], encoder: AudioEncoder, students: Students, hops: int, lookahead: int
) -> Material:
    """Hears every clip of the runs once, for its contexts and for what the students make of it."""
    clips = {clip.info.id: clip for folder in corpora for clip in Corpus(folder)}
    contexts, mu, nu = [], [], []
    known: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for run in runs.runs:
        if run.clip not in clips:
            raise StageError(f"no corpus named with --corpus-folders holds clip {run.clip}, which has pictures")
        if run.clip not in known:
            whole, sounds = hear_whole(encoder, clips[run.clip].audio())
            known[run.clip] = whole, *read_voice(students, sounds, described(clips[run.clip]).speech)
        heard, felt, who = known[run.clip]
        contexts.append(heard_at(heard, range(run.first, run.first + runs.frames), hops, lookahead))
        mu.append(felt)
        nu.append(who)
    return Material(runs, tuple(contexts), torch.stack(mu), torch.stack(nu))


def batch_of(data: Material, size: int, seed: tuple[int, int]) -> tuple[dict[str, Tensor], list[int]]:
    """Batch of a step, a function of the seed: frames, their contexts, contexts of another time, and a still."""
    rng = np.random.default_rng(seed)
    picks = [int(p) for p in rng.integers(len(data.runs.runs), size=size)]
    frames = data.runs.frames
    at = rng.integers(frames, size=size)
    other = (at + rng.integers(frames // 4, frames - frames // 4, size=size)) % frames  # tau' != tau
    stills = rng.integers(frames, size=size)
    pixels = [torch.from_numpy(np.array(data.runs.pixels[p][[t, s]])) for p, t, s in zip(picks, at, stills)]
    both = torch.stack(pixels).permute(1, 0, 4, 2, 3).float() / 255.0
    return {
        "truth": both[0],
        "still": both[1],
        "heard": torch.stack([data.contexts[p][t] for p, t in zip(picks, at)]),
        "mismatched": torch.stack([data.contexts[p][t] for p, t in zip(picks, other)]),
        "mu": data.mu[picks],
        "nu": data.nu[picks],
    }, picks


@contextmanager
def held(module: nn.Module) -> Iterator[None]:
    """The module's weights get no gradient meanwhile, but what passes through it does."""
    wanted = [p.requires_grad for p in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, on in zip(module.parameters(), wanted):
            parameter.requires_grad_(on)


class Speech2VideoObjective(nn.Module):
    """`batch -> (loss, terms)`: eq. 10 for the generator plus eqs. 4-6 for the discriminators, one backward for both."""

    def __init__(self, config: Speech2VideoConfig) -> None:
        super().__init__()
        self.without = frozenset(config.without)
        shape = replace(config.shape, identity_branch="identity" not in self.without)
        self.composer = PaperComposer(shape)
        context = shape.context_size * shape.context_hops
        self.judges = Discriminators(context, shape.map_widths, IDENTITY_SIDES, shape.size)
        self.weights = (config.similarity_weight, config.gradient_weight)

    def forward(self, batch: dict[str, Tensor], real_maps: list[Tensor]) -> tuple[Tensor, dict[str, float]]:
        drawn, maps = self.composer(batch["heard"], batch["nu"], batch["mu"])
        with held(self.judges):
            generator, terms = self.generator_loss(batch, drawn, maps)
        judges, more = self.judges_loss(batch, drawn.detach(), [leaf.detach() for leaf in maps], real_maps)
        return generator + judges, terms | more

    def generator_loss(
        self, batch: dict[str, Tensor], drawn: Tensor, maps: list[Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """Eq. 10."""
        scores = []
        if maps and "d_id" not in self.without:
            scores.append(torch.cat(self.judges.identity(maps)))
        if "d_fr" not in self.without:
            scores.append(self.judges.frame(drawn))
        if "d_sync" not in self.without:
            scores.append(self.judges.sync(batch["heard"], drawn))
        similar = eq.similarity(drawn, batch["truth"])
        sharp = eq.gradient(drawn, batch["truth"])
        loss = self.weights[0] * similar
        if "grad" not in self.without:
            loss = loss + self.weights[1] * sharp
        fooled = eq.generator_adversarial(*scores) if scores else drawn.new_zeros(())
        terms = {
            "similar": float(similar.detach()),
            "gradient": float(sharp.detach()),
            "fooled": float(fooled.detach()),
        }
        return loss + fooled, terms

    def judges_loss(
        self, batch: dict[str, Tensor], drawn: Tensor, maps: list[Tensor], real_maps: list[Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """Eqs. 4, 5 and 6."""
        judges, losses = self.judges, {}
        if maps and "d_id" not in self.without:
            losses["d_id"] = eq.identity_adversarial(judges.identity(maps), judges.identity(real_maps))
        if "d_fr" not in self.without:
            losses["d_fr"] = eq.frame_adversarial(judges.frame(drawn), judges.frame(batch["truth"]))
        if "d_sync" not in self.without:
            losses["d_sync"] = eq.sync_adversarial(
                judges.sync(batch["heard"], batch["truth"]),
                judges.sync(batch["mismatched"], batch["truth"]),
                judges.sync(batch["heard"], drawn),
            )
        total = torch.stack(list(losses.values())).sum() if losses else drawn.new_zeros(())
        return total, {name: float(loss.detach()) for name, loss in losses.items()}


def vgg_maps(vgg: VggFace, still: Tensor) -> list[Tensor]:
    """VGG's maps of stills with the sides that the identity branch makes."""
    with torch.no_grad():
        size = IDENTITY_SIDES[-1] * 2
        small = nn.functional.interpolate(still, (size, size), mode="bilinear", antialias=True)
        return vgg.maps(small, IDENTITY_SIDES)


def draw(composer: PaperComposer, data: Material, index: int) -> Tensor:
    """All frames of a run, `[frames, 3, S, S]` 0..1."""
    with torch.no_grad():
        n = data.runs.frames
        return composer(data.contexts[index], data.nu[index].expand(n, -1), data.mu[index].expand(n, -1))[0]


def save_strip(path: Path, rows: Sequence[Tensor]) -> None:
    """Rows of pictures `[n, 3, S, S]` 0..1 as one PNG, row under row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = torch.cat([torch.cat(list(row), 2) for row in rows], 1).clamp(0, 1)
    rgb = np.round(255 * picture.permute(1, 2, 0).numpy()).astype(np.uint8)
    cv2.imwrite(str(path.with_suffix(".part.png")), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    path.with_suffix(".part.png").replace(path)


def load_material(config: Speech2VideoConfig, *splits: str) -> Material:
    """Runs of some splits with what is heard. Raises StageError or ValueError with what is missing."""
    runs = load_runs(config.runs).of(*splits)
    kept = config.runs / ".heard" / f"{_digest(config, runs)}.safetensors"
    if kept.is_file():
        leaves = load_file(kept)
        return Material(runs, tuple(leaves["contexts"]), leaves["mu"], leaves["nu"])
    students, _ = load_students(config.reader / STUDENTS[config.students])
    encoder = load_hearing(config.audio / "best").encoder
    data = gather(runs, config.corpus_folders, encoder, students, config.shape.context_hops, config.lookahead_hops)
    if data.contexts:
        kept.parent.mkdir(exist_ok=True)
        write_tensors(kept, {"contexts": torch.stack(data.contexts), "mu": data.mu, "nu": data.nu})
    return data


def _digest(config: Speech2VideoConfig, runs: FaceRuns) -> str:
    """Of all that decides what is heard at the runs' frames: hearing takes minutes, and every ablation needs the same."""
    said = (sorted(map(str, config.corpus_folders)), config.shape.context_hops, config.lookahead_hops, runs.runs)
    found = hashlib.sha256(repr(said).encode())
    for path in (
        config.audio / "best.safetensors",
        (config.reader / STUDENTS[config.students]).with_suffix(".safetensors"),
    ):
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()[:16]


def load_run(folder: Path) -> tuple[Speech2VideoObjective, Speech2VideoConfig, int]:
    """A trained run: averaged weights, its configuration and its step. Raises StageError with what to do."""
    try:
        about = json.loads((folder / "model.json").read_text())
        options = about["config"]
        shape = PaperComposerConfig(**(options["shape"] | {"map_widths": tuple(options["shape"]["map_widths"])}))
        paths = {name: Path(options[name]) for name in ("runs", "audio", "reader", "teachers")}
        corpora = tuple(Path(folder) for folder in options["corpus_folders"])
        config = Speech2VideoConfig(
            **paths, students=options["students"], corpus_folders=corpora, without=tuple(options["without"]),
            batch=options["batch"], lookahead_hops=options["lookahead_hops"], shape=shape,
        )  # fmt: skip
        objective = Speech2VideoObjective(config)
        objective.load_state_dict({k: leaf.float() for k, leaf in load_file(folder / "model.safetensors").items()})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StageError(
            f"{folder}: expected a run of training.stages.speech2video: {error}; train it first"
        ) from error
    return objective.eval().requires_grad_(False), config, int(about["step"])


def main(arguments: list[str] | None = None) -> None:
    config = read_config(Speech2VideoConfig(), arguments)
    if unknown := set(config.without) - set(PARTS):
        raise StageError(f"--without: expected some of {', '.join(PARTS)}, found {', '.join(sorted(unknown))}")
    torch.manual_seed(config.run.seed)
    torch.set_num_threads(config.run.threads)
    vgg = load_teachers(config.teachers)[0].identity
    widths = tuple(vgg.map_widths(IDENTITY_SIDES[-1] * 2, IDENTITY_SIDES))
    data = load_material(config, "train")
    shape = replace(
        config.shape, map_widths=widths, context_size=data.contexts[0].shape[2], feature=data.nu.shape[1],
        size=data.runs.size,
    )  # fmt: skip
    config = replace(config, shape=shape)
    val = load_material(config, "val")
    run = Run(Speech2VideoObjective(config), config, config.run, groups=RATES)
    for step in run.steps("images"):
        batch, picks = batch_of(data, config.batch, (config.run.seed, step))
        batch = {name: leaf.to(run.fabric.device) for name, leaf in batch.items()}
        maps = vgg_maps(vgg.to(run.fabric.device), batch["still"])
        loss, terms = run.objective(batch, maps)
        run.update(loss, terms, len(picks), lambda picks=picks: ", ".join(data.runs.runs[p].clip for p in picks))
        if run.step % config.sample_every == 0 and val.runs.runs:
            sample(run, config, val)


def sample(run: Run, config: Speech2VideoConfig, val: Material) -> None:
    """Every fourth frame of some validation runs, drawn above true, into `frames/`."""
    objective = Speech2VideoObjective(config).eval()
    objective.load_state_dict(run.averaged())
    rows = []
    for index in range(0, len(val.runs.runs), max(1, len(val.runs.runs) // 4)):
        truth = torch.from_numpy(np.array(val.runs.pixels[index])).permute(0, 3, 1, 2).float() / 255.0
        rows += [draw(objective.composer, val, index)[::4], truth[::4]]
    save_strip(config.run.out / "frames" / f"{run.step:06d}.png", rows[:8])


__all__ = ["PARTS", "Speech2VideoConfig", "draw", "load_material", "load_run", "main", "save_strip"]

if __name__ == "__main__":
    try:
        main()
    except (StageError, ClipError, ValueError) as error:
        sys.exit(f"error: {error}")
