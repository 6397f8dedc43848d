"""Teaches encoder and talkers to speak: from spoiled sound to the expression weights of the corpus, supervised.

    python -m training.stages.talker --corpus corpora/voices --cpc runs/cpc --lookahead 0 4 8 --out runs/talker

One encoder serves one talker for each look-ahead; all learn at once, so their figures compare. Whenever a talker does
better on the validation clips, encoder and talker are kept as `lookahead_<L>.safetensors`; at the end the smallest
look-ahead whose figures are within 5% of the best is copied to `best.safetensors` (with `best.json`).
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from safetensors.torch import load_file
from torch import Tensor, nn

from training.data.clip import ClipError, Corpus
from training.data.codec import recode
from training.data.sound import utterance
from training.data.spoken import Crop, CropPlan, Lips, SpokenClip, draw_batch, learn_lips, load_clip, pressed
from training.losses.talking import TalkingLoss
from training.metrics.heard import judge, listen
from training.models.cpc import RATE, AudioEncoder, AudioEncoderConfig
from training.models.talker import Talker, TalkerConfig, newest_hops
from training.rig.expressions import EXPRESSIONS
from training.stages.run import Run, RunOptions, StageError, read_config, write_json, write_tensors

FPS = 30
JUDGED = ("aperture_r", "closure_recall", "labial_auc")


@dataclass(frozen=True)
class TalkerStageConfig:
    """Supervised training of encoder and talkers."""

    corpus_folders: Annotated[tuple[Path, ...], tyro.conf.arg(name="corpus")] = (Path("corpora/voices"),)
    """Corpora; sentences and voices that one of them holds out are held out of all by the corpus's own split rule."""
    cpc: Path | None = None
    """Run folder of training.stages.cpc whose encoder is the start; without it the encoder starts untrained."""
    start: Path | None = None
    """Run folder of this stage whose encoder and talkers are the start instead."""
    lookahead: tuple[int, ...] = (0, 4, 8)
    """Hops of 10 ms that the talker hears past the frame; one talker for each."""
    leave_out_voices: tuple[str, ...] = ("kerstin",)
    """Voices that begin so are never learned from."""
    batch: int = 12
    crop_frames: int = 96
    warm_frames: int = 9
    """First frames of a crop, which have too little past to be judged by."""
    quiet_share: float = 0.12
    clean_share: float = 0.2
    """Share of the crops that are not spoiled."""
    coded_share: float = 0.25
    """Share of the training clips that are also heard through Opus or MP3."""
    check_minutes: float = 3.0
    encoder_lr: float = 0.5
    """Learning rate of the encoder relative to the talkers'."""
    encoder: AudioEncoderConfig = field(default_factory=AudioEncoderConfig)
    talker: TalkerConfig = field(default_factory=TalkerConfig)
    run: Annotated[RunOptions, tyro.conf.arg(name="")] = field(
        default_factory=lambda: RunOptions(out=Path("runs/talker"), ema_decay=0.998)
    )


class TalkerObjective(nn.Module):
    """Encoder and one talker a look-ahead. `batch -> (loss, terms)`; terms are named `4/lips` for look-ahead 4."""

    def __init__(self, config: TalkerStageConfig, lips: Lips) -> None:
        super().__init__()
        self.encoder = AudioEncoder(config.encoder)
        shape = replace(config.talker, context_size=config.encoder.context_size)
        self.talkers = nn.ModuleDict({str(n): Talker(replace(shape, lookahead_hops=n)) for n in config.lookahead})
        self.judge = TalkingLoss(EXPRESSIONS, torch.from_numpy(lips.gap), lips.rest, lips.spread)
        for talker in self.talkers.values():
            with torch.no_grad():
                talker.draw.bias.copy_(torch.from_numpy(lips.quiet_face[-1]))

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        contexts = self.encoder(batch["samples"])
        frames = batch["expression"].shape[1]
        losses, terms = [], {}
        for name, talker in self.talkers.items():
            newest = newest_hops(0, frames, talker.config.lookahead_hops)
            pred = talker.offline(contexts, batch["emotion"], newest)
            loss, parts = self.judge(pred, batch["expression"], batch["aperture"], batch["closed"], batch["valid"])
            losses.append(loss)
            terms |= {f"{name}/{part}": value for part, value in parts.items()}
        return torch.stack(losses).mean(), terms


def collate(crops: Sequence[Crop], warm_frames: int, device: torch.device) -> dict[str, Tensor]:
    names = ("samples", "expression", "emotion", "aperture", "closed")
    batch = {name: torch.from_numpy(np.stack([getattr(crop, name) for crop in crops])) for name in names}
    batch["valid"] = torch.ones_like(batch["aperture"])
    batch["valid"][:, :warm_frames] = 0.0
    return {name: leaf.float().to(device) for name, leaf in batch.items()}


def score(table: dict[str, float]) -> float:
    """One figure to keep checkpoints by."""
    return sum(_known(table[figure]) for figure in JUDGED)


def _known(figure: float) -> float:
    # a set without labials, or without other consonants, has no such figure
    return figure if figure == figure else 0.0


class Keeper:
    """Judges the averaged weights on the clips of each set and keeps the best checkpoint of every look-ahead."""

    def __init__(self, config: TalkerStageConfig, lips: Lips, sets: dict[str, list[SpokenClip]]) -> None:
        self.config, self.lips, self.sets = config, lips, sets
        self.copy = TalkerObjective(config, lips).eval()
        self.best: dict[str, dict[str, Any]] = {}

    def check(self, run: Run) -> None:
        self.copy.load_state_dict(run.averaged())
        most = max(self.config.lookahead)
        heard = {k: [listen(self.copy.encoder, clip, most) for clip in clips] for k, clips in self.sets.items()}
        for name, talker in self.copy.talkers.items():
            tables = {k: judge(talker, heard[k], clips, self.lips) for k, clips in self.sets.items()}
            for label, table in tables.items():
                shown = "  ".join(f"{key} {value:.3f}" for key, value in table.items())
                print(f"step {run.step}  look-ahead {name}  {label}: {shown}", file=sys.stderr, flush=True)
            if name not in self.best or score(tables["val"]) > score(self.best[name]["metrics"]["val"]):
                self._keep(name, talker, tables, run)
        self.choose()

    def _keep(self, name: str, talker: Talker, tables: dict[str, Any], run: Run) -> None:
        out = self.config.run.out
        tensors = {f"encoder.{key}": leaf.half() for key, leaf in self.copy.encoder.state_dict().items()}
        tensors |= {f"talker.{key}": leaf.half() for key, leaf in talker.state_dict().items()}
        about = {
            "config": {"encoder": asdict(self.config.encoder), "talker": asdict(talker.config)},
            "lookahead_hops": talker.config.lookahead_hops,
            "step": run.step,
            "corpora": [folder.name for folder in self.config.corpus_folders],
            "seed": self.config.run.seed,
            "metrics": tables,
            "aperture": {"gap": self.lips.gap.tolist(), "rest": self.lips.rest, "fit": self.lips.fit},
        }
        write_tensors(out / f"lookahead_{name}.safetensors", tensors)
        write_json(out / f"lookahead_{name}.json", about)
        self.best[name] = about

    def choose(self) -> None:
        """Copies the smallest look-ahead whose validation figures are each within 5% of the best to `best`."""
        out = self.config.run.out
        tables = {int(name): about["metrics"]["val"] for name, about in self.best.items()}
        top = {figure: max(_known(table[figure]) for table in tables.values()) for figure in JUDGED}
        within = [n for n, table in tables.items() if all(_known(table[f]) >= 0.95 * top[f] for f in JUDGED)]
        chosen = min(within, default=max(tables, key=lambda n: score(tables[n])))
        for suffix in ("safetensors", "json"):
            part = out / f"best.{suffix}.part"
            shutil.copyfile(out / f"lookahead_{chosen}.{suffix}", part)
            part.replace(out / f"best.{suffix}")


def load_sets(config: TalkerStageConfig) -> dict[str, list[SpokenClip]]:
    """Clips of the corpora by split, voices left out dropped from the training split alone."""
    sets: dict[str, list[SpokenClip]] = {split: [] for split in ("train", "val", "test", "held_voice")}
    for folder in config.corpus_folders:
        for clip in Corpus(folder):
            unwanted = clip.info.split == "train" and clip.info.voice.startswith(config.leave_out_voices or ("\0",))
            if clip.info.split in sets and not unwanted:
                sets[clip.info.split].append(load_clip(clip))
    if not sets["train"] or not sets["val"]:
        names = ", ".join(map(str, config.corpus_folders))
        found = f"{len(sets['train'])} and {len(sets['val'])}"
        raise StageError(f"{names}: expected clips of the splits train and val, found {found}; make the corpus anew")
    return sets


def coded(clips: Sequence[SpokenClip], share: float, seed: int) -> list[SpokenClip]:
    """Some of the clips again, as they sound after a call or in a podcast."""
    rng, out = np.random.default_rng(seed), []
    for clip in clips:
        if rng.random() < share:
            codec, kilobits = [("opus", 6), ("opus", 10), ("opus", 16), ("mp3", 16), ("mp3", 32)][rng.integers(5)]
            samples = recode(clip.sound.cut(0, len(clip.sound.samples)), codec, kilobits)
            out.append(replace(clip, sound=utterance(f"{clip.name} {codec} {kilobits}k", samples)))
    return out


def start_from(objective: TalkerObjective, config: TalkerStageConfig) -> None:
    """Loads the encoder of the pre-training, or encoder and talkers of an earlier run."""
    if config.start is None and config.cpc is None:
        return
    path = (config.start or config.cpc or Path()) / "model.safetensors"
    own = objective.state_dict()
    wanted = [name for name in own if config.start or name.startswith("encoder.")]
    try:
        found = load_file(path)
        # talkers of look-aheads that the earlier run did not have start untrained
        found = {name: found[name].float() for name in wanted if name in found or name.startswith("encoder.")}
        objective.load_state_dict(own | found)
    except (OSError, KeyError, RuntimeError) as error:
        raise StageError(f"{path}: expected weights of an encoder of this shape: {error}") from error


def main(arguments: list[str] | None = None) -> None:
    config = read_config(TalkerStageConfig(), arguments)
    torch.manual_seed(config.run.seed)
    sets = load_sets(config)
    train = sets.pop("train")
    train += coded(train, config.coded_share, config.run.seed)
    sets = {label: clips for label, clips in sets.items() if clips}
    lips = learn_lips(train)
    train = [pressed(clip, lips) for clip in train]
    minutes = sum(clip.frames for clip in train) / FPS / 60
    print(
        f"{len(train)} clips, {minutes:.1f} minutes; aperture from weights: {lips.fit:.3f} explained", file=sys.stderr
    )

    objective = TalkerObjective(config, lips)
    start_from(objective, config)
    run = Run(objective, config, config.run, groups={"encoder.": config.encoder_lr})
    keeper = Keeper(config, lips, sets)
    plan = CropPlan(config.crop_frames, max(config.lookahead), config.quiet_share, config.clean_share)
    checked = time.monotonic()
    for step in run.steps():
        crops = draw_batch(train, lips, config.batch, plan, (config.run.seed, step))
        batch = collate(crops, config.warm_frames, run.fabric.device)
        loss, terms = run.objective(batch)
        run.update(loss, terms, batch["samples"].numel() / RATE, lambda crops=crops: "; ".join(c.name for c in crops))
        if time.monotonic() - checked > 60.0 * config.check_minutes:
            keeper.check(run)
            checked = time.monotonic()
    keeper.check(run)


if __name__ == "__main__":
    try:
        main()
    except (StageError, ClipError) as error:
        sys.exit(f"error: {error}")
