"""Trains SyncNet on a corpus: which mouth belongs to which sound. Gives AV confidence (LSE-C), LSE-D and offset.

    python -m training.stages.syncnet --runs corpora/runs128 --run.out runs/syncnet
    python -m training.stages.syncnet --judge syncnet_v2.model          # published weights, no training: figures alone

Five frames of a mouth and the 0.2 s of sound that go with them are brought together; sounds from elsewhere in the same
clip are pushed away, so that neither who speaks nor the room helps. The figures of the truth itself are what other
systems are read against.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from training.data.clip import ClipError, Corpus
from training.data.face_runs import FaceRuns, load_runs
from training.losses.speech2video import sync_contrastive
from training.models.speech2video.published import WeightsError
from training.models.speech2video.syncnet import (
    FRAMES,
    Mfcc,
    Synchrony,
    SyncNet,
    SyncNetConfig,
    distances,
    load_syncnet,
    mouths_of,
    sound_windows,
    synchrony,
)
from training.stages.run import Run, RunOptions, StageError, read_config, write_json

LEAST_SHIFT = 3  # frames: nearer sounds are too alike to be called wrong


@dataclass(frozen=True)
class SyncNetStageConfig:
    """Training of SyncNet."""

    runs: Path = Path("corpora/runs128")
    """Runs of training.data.face_runs, frames in a row."""
    corpus_folders: tuple[Path, ...] = (Path("corpora/voices"),)
    judge: Path | None = None
    """Published SyncNet weights, a trained run folder, or nothing: measure with these instead of training."""
    batch: int = 48
    margin: float = 1.2
    """Distance past which wrong pairs are left alone; embeddings have length 1, so 2 is the most."""
    shape: SyncNetConfig = field(default_factory=SyncNetConfig)
    run: RunOptions = field(
        default_factory=lambda: RunOptions(
            out=Path("runs/syncnet"), steps=1500, lr=1e-3, warmup_steps=50, ema_decay=0.99, clip_norm=5.0
        )
    )


class SyncNetObjective(nn.Module):
    """`mouths [B, 15, s, s], right and wrong sounds [B, 13, 20] -> (loss, terms)`."""

    def __init__(self, config: SyncNetStageConfig) -> None:
        super().__init__()
        self.net = SyncNet(config.shape)
        self.margin = config.margin

    def forward(self, mouths: Tensor, right: Tensor, wrong: Tensor) -> tuple[Tensor, dict[str, float]]:
        seen = self.net.see(mouths)
        near, far = self.net.hear(right), self.net.hear(wrong)
        ones = torch.ones(len(seen), device=seen.device)
        loss = sync_contrastive(near, seen, ones, self.margin) + sync_contrastive(far, seen, 0 * ones, self.margin)
        told = ((near - seen).square().sum(1) < (far - seen).square().sum(1)).float().mean()
        return loss, {"told": float(told)}


@dataclass(frozen=True)
class SeenAndHeard:
    """Runs as mouths `[n, 3, side, side]` 0..1, and their clips' cepstra `[13, T]`."""

    runs: FaceRuns
    mouths: tuple[Tensor, ...]
    mfcc: tuple[Tensor, ...]


def cepstra(corpora: tuple[Path, ...], wanted: set[str]) -> dict[str, Tensor]:
    """MFCC of the clips named, by id. Raises StageError for one that no corpus holds."""
    found, extract = {}, Mfcc()
    for folder in corpora:
        for clip in Corpus(folder):
            if clip.info.id in wanted:
                with torch.no_grad():
                    samples = clip.audio()
                    found[clip.info.id] = extract(torch.from_numpy(samples[None, : len(samples) // 160 * 160]))[0]
    if missing := wanted - set(found):
        raise StageError(f"no corpus named with --corpus-folders holds clip {sorted(missing)[0]}, which has pictures")
    return found


def prepare(runs: FaceRuns, corpora: tuple[Path, ...], side: int) -> SeenAndHeard:
    sounds = cepstra(corpora, {run.clip for run in runs.runs})
    mouths = []
    for pixels in runs.pixels:
        pictures = torch.from_numpy(np.ascontiguousarray(np.asarray(pixels).transpose(0, 3, 1, 2))).float() / 255.0
        mouths.append(mouths_of(pictures, side))
    return SeenAndHeard(runs, tuple(mouths), tuple(sounds[run.clip] for run in runs.runs))


def batch_of(data: SeenAndHeard, size: int, seed: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Batch of a step, a function of the seed: mouths, their sound, and a sound of the same clip some frames away."""
    rng = np.random.default_rng(seed)
    mouths, right, wrong, picks = [], [], [], []
    for pick in rng.integers(len(data.runs.runs), size=size):
        run = data.runs.runs[pick]
        start = int(rng.integers(data.runs.frames - FRAMES + 1))
        stack = data.mouths[pick][start : start + FRAMES]
        light = float(rng.uniform(0.85, 1.15))
        move = tuple(int(v) for v in rng.integers(-3, 4, 2))
        stack = torch.roll((light * stack).clamp(0, 1), move, (2, 3))
        frame = run.first + start
        last = data.mfcc[pick].shape[1] * 30 // 100 - FRAMES
        others = [f for f in range(max(last, 1)) if abs(f - frame) >= LEAST_SHIFT] or [frame + LEAST_SHIFT]
        # near misses are the hard ones: half of the wrong sounds are within half a second
        near = [f for f in others if abs(f - frame) <= 15]
        pool = near if near and rng.random() < 0.5 else others
        sounds = sound_windows(data.mfcc[pick], [frame, int(rng.choice(pool))])
        mouths.append(stack.flatten(0, 1))
        right.append(sounds[0])
        wrong.append(sounds[1])
        picks.append(int(pick))
    return torch.stack(mouths), torch.stack(right), torch.stack(wrong), picks


def judge_truth(net: nn.Module, data: SeenAndHeard) -> dict[str, float]:
    """Mean LSE-C, LSE-D, and the share of runs whose offset is within a frame of 0."""
    figures = [synchrony(distances(net, m, s, r.first)) for m, s, r in zip(data.mouths, data.mfcc, data.runs.runs)]
    return summary(figures)


def summary(figures: list[Synchrony]) -> dict[str, float]:
    return {
        "lse_c": float(np.mean([f.confidence for f in figures])),
        "lse_d": float(np.mean([f.distance for f in figures])),
        "offset_right": float(np.mean([abs(f.offset) <= 1 for f in figures])),
        "runs": len(figures),
    }


def load_judge(path: Path) -> tuple[nn.Module, int]:
    """A trained run folder or a published weight file -> (network, side of the mouths it wants)."""
    if not path.is_dir():
        return load_syncnet(path), 224
    try:
        about = json.loads((path / "model.json").read_text())
        config = SyncNetStageConfig(shape=SyncNetConfig(**about["config"]["shape"]))
        objective = SyncNetObjective(config)
        objective.load_state_dict({k: leaf.float() for k, leaf in load_file(path / "model.safetensors").items()})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StageError(f"{path}: expected a run of training.stages.syncnet: {error}; train it first") from error
    return objective.net.eval().requires_grad_(False), config.shape.side


def main(arguments: list[str] | None = None) -> None:
    config = read_config(SyncNetStageConfig(), arguments)
    torch.manual_seed(config.run.seed)
    torch.set_num_threads(config.run.threads)
    runs = load_runs(config.runs)
    if config.judge is not None:
        net, side = load_judge(config.judge)
        _report(net, {s: prepare(runs.of(s), config.corpus_folders, side) for s in ("test",)}, config)
        return
    train = prepare(runs.of("train"), config.corpus_folders, config.shape.side)
    run = Run(SyncNetObjective(config), config, config.run)
    for step in run.steps("windows"):
        *batch, picks = batch_of(train, config.batch, (config.run.seed, step))
        loss, terms = run.objective(*(leaf.to(run.fabric.device) for leaf in batch))
        run.update(loss, terms, len(picks), lambda picks=picks: ", ".join(runs.runs[i].clip for i in picks))
    objective = SyncNetObjective(config).eval()
    objective.load_state_dict(run.averaged())
    splits = [split for split in ("val", "test", "held_person") if runs.of(split).runs]
    _report(objective.net, {s: prepare(runs.of(s), config.corpus_folders, config.shape.side) for s in splits}, config)


def _report(net: nn.Module, sets: dict[str, SeenAndHeard], config: SyncNetStageConfig) -> None:
    figures = {split: judge_truth(net, data) for split, data in sets.items()}
    config.run.out.mkdir(parents=True, exist_ok=True)
    write_json(config.run.out / "figures.json", {"truth": figures, "config": asdict(config)})
    for split, f in figures.items():
        print(
            f"{split}: the truth has LSE-C {f['lse_c']:.3f}, LSE-D {f['lse_d']:.3f}, offset within a frame "
            f"{f['offset_right']:.2f}, of {f['runs']} runs",
            file=sys.stderr,
        )


if __name__ == "__main__":
    try:
        main()
    except (StageError, ClipError, WeightsError) as error:
        sys.exit(f"error: {error}")
