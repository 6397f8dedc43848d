"""Trains SyncNet on a corpus: which mouth belongs to which sound. Gives AV confidence (LSE-C), LSE-D and offset.

    python -m training.data.mouths --corpus corpora/full256 --out corpora/mouths32
    python -m training.stages.syncnet --run.out runs/syncnet
    python -m training.stages.syncnet --judge syncnet_v2.model          # published weights, no training: figures alone

Five frames of a mouth and the 0.2 s of sound that go with them are brought together; sounds from elsewhere in the same
clip are pushed away, so that neither who speaks nor the room helps. The figures of the truth itself are what other
systems are read against.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from training.data.clip import Clip, ClipError, Corpus
from training.losses.speech2video import sync_matching
from training.models.speech2video.published import WeightsError
from training.models.speech2video.syncnet import (
    FRAMES,
    SEARCH,
    Mfcc,
    Synchrony,
    SyncNet,
    SyncNetConfig,
    distances,
    load_syncnet,
    sound_windows,
    synchrony,
)
from training.stages.run import Run, RunOptions, StageError, read_config, write_json

GRID = 3  # frames between the moments of a batch at least: nearer sounds are too alike to be called wrong
RUN_FRAMES = 16  # of the short runs that the tables measure
FAR = 5  # frames: what is shifted by more is plainly out of time


@dataclass(frozen=True)
class SyncNetStageConfig:
    """Training of SyncNet."""

    corpus: Path = Path("corpora/full256")
    """Clips with pixels: their sound."""
    mouths: Path = Path("corpora/mouths32")
    """What training.data.mouths cut out of them."""
    judge: Path | None = None
    """Published SyncNet weights, a trained run folder, or nothing: measure with these instead of training."""
    clips: int = 12
    moments: int = 16
    """A batch holds this many clips, and of each this many moments, which are each other's wrong answers."""
    shape: SyncNetConfig = field(default_factory=SyncNetConfig)
    run: RunOptions = field(
        default_factory=lambda: RunOptions(
            out=Path("runs/syncnet"), steps=4000, lr=1e-3, warmup_steps=100, ema_decay=0.995, clip_norm=5.0
        )
    )


class SyncNetObjective(nn.Module):
    """`mouths [C, K, 15, s, s], sounds [C, K, 13, 20] -> (loss, terms)`."""

    def __init__(self, config: SyncNetStageConfig) -> None:
        super().__init__()
        self.net = SyncNet(config.shape)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, mouths: Tensor, sounds: Tensor) -> tuple[Tensor, dict[str, float]]:
        clips, moments = mouths.shape[:2]
        seen = self.net.see(mouths.flatten(0, 1)).view(clips, moments, -1)
        heard = self.net.hear(sounds.flatten(0, 1)).view(clips, moments, -1)
        loss = sync_matching(heard, seen, self.log_sharpness.clamp(max=math.log(40.0)).exp())
        with torch.no_grad():
            picked = torch.einsum("cke,cje->ckj", seen, heard).argmax(2)
            told = (picked == torch.arange(moments, device=picked.device)).float().mean()
        return loss, {"told": float(told)}


@dataclass(frozen=True)
class SeenAndHeard:
    """Of each clip: mouths `[n, side, side, 3]` uint8, cepstra `[13, T]`, and its spoken frames, first and last."""

    clips: tuple[str, ...]
    mouths: tuple[np.ndarray, ...]
    mfcc: tuple[Tensor, ...]
    spoken: tuple[tuple[int, int], ...]


def cepstra_of(clip: Clip, extract: Mfcc) -> Tensor:
    """`[13, T]` of a clip's sound."""
    samples = clip.audio()
    with torch.no_grad():
        return extract(torch.from_numpy(samples[None, : len(samples) // 160 * 160]))[0]


def prepare(corpus: Path, folder: Path, side: int, *splits: str) -> SeenAndHeard:
    """Clips of some splits whose mouths were cut. Raises StageError where there are none."""
    names, mouths, mfcc, spoken, extract = [], [], [], [], Mfcc()
    for clip in Corpus(corpus).split(*splits):
        path = folder / f"{clip.info.id}.npy"
        if not path.is_file():
            continue
        cut = np.load(path)
        if cut.ndim != 4 or len(cut) != clip.info.frames:
            raise StageError(
                f"{path}: expected {clip.info.frames} mouths, found shape {cut.shape}; delete it, cut again"
            )
        names.append(clip.info.id)
        mouths.append(np.stack([cv2.resize(m, (side, side), interpolation=cv2.INTER_LINEAR) for m in cut]))
        mfcc.append(cepstra_of(clip, extract))
        said = [(a, b) for name, a, b in clip.info.phones if name != "sil"] or [(0.0, clip.info.frames / 30)]
        last = clip.info.frames - FRAMES
        spoken.append((min(max(0, int(said[0][0] * 30) - 2), last), min(int(said[-1][1] * 30) + 2, last)))
    if not names:
        raise StageError(
            f"{folder}: expected mouths of clips of {', '.join(splits)} of {corpus}, found none; cut them: "
            f"python -m training.data.mouths --corpus {corpus} --out {folder}"
        )
    return SeenAndHeard(tuple(names), tuple(mouths), tuple(mfcc), tuple(spoken))


def as_mouths(pixels: np.ndarray) -> Tensor:
    """`[n, side, side, 3]` uint8 -> `[n, 3, side, side]` 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255.0


def moments_of(span: tuple[int, int], count: int, rng: np.random.Generator) -> list[int]:
    """`count` frames of a span, mostly `GRID` apart at least; a short clip gives some twice as near."""
    first, last = span
    every = GRID if (last - first) // GRID >= count else 1
    grid = np.arange(first + int(rng.integers(every)), last + 1, every)
    return [int(f) for f in rng.choice(grid, count, replace=len(grid) < count)]


def batch_of(data: SeenAndHeard, clips: int, moments: int, seed: tuple[int, int]) -> tuple[Tensor, Tensor, list[int]]:
    """Batch of a step, a function of the seed: mouths `[C, K, 15, s, s]`, their sounds, and which clips."""
    rng = np.random.default_rng(seed)
    picks = [int(p) for p in rng.choice(len(data.clips), clips, replace=len(data.clips) < clips)]
    mouths, sounds = [], []
    for pick in picks:
        at = moments_of(data.spoken[pick], moments, rng)
        stack = np.stack([data.mouths[pick][f : f + FRAMES] for f in at])  # [K, 5, s, s, 3]
        x = torch.from_numpy(stack).permute(0, 1, 4, 2, 3).float() / 255.0
        # one face, one light, one place and one microphone for all moments of a clip: none of them must tell
        x = (x - 0.5) * float(rng.uniform(0.8, 1.25)) + 0.5 + float(rng.uniform(-0.08, 0.08))
        x = torch.roll(x, tuple(int(v) for v in rng.integers(-2, 3, 2)), (3, 4))
        mouths.append((x.flip(4) if rng.random() < 0.5 else x).clamp(0, 1).flatten(1, 2))
        colour = torch.from_numpy(rng.normal(0, [1.5] + [0.4] * 12).astype(np.float32))
        sounds.append(sound_windows(data.mfcc[pick], at) + colour[:, None])
    return torch.stack(mouths), torch.stack(sounds), picks


def judge_truth(net: nn.Module, data: SeenAndHeard) -> dict[str, float]:
    """Of whole clips and of their runs of 16 frames: mean LSE-C and LSE-D, and the share within a frame of 0.

    `lse_d_shifted` is the distance of mouths to sounds that are more than 5 frames off: what the truth's own is worth.
    """
    clips, runs, shifted = [], [], []
    for pixels, mfcc, (first, last) in zip(data.mouths, data.mfcc, data.spoken):
        curves = distances(net, as_mouths(pixels[first : last + FRAMES]), mfcc, first)
        clips.append(synchrony(curves))
        pieces = [curves[k : k + RUN_FRAMES - FRAMES + 1] for k in range(0, len(curves), RUN_FRAMES)]
        runs += [synchrony(piece) for piece in pieces if len(piece) == RUN_FRAMES - FRAMES + 1]
        off = (torch.arange(curves.shape[1]) - SEARCH).abs() > FAR
        shifted.append(float(curves[:, off].mean()))
    figures = {"clips": len(clips), **summary(clips), "lse_d_shifted": float(np.mean(shifted))}
    return figures | {f"run_{name}": value for name, value in ({"count": len(runs)} | summary(runs)).items()}


def summary(figures: list[Synchrony]) -> dict[str, float]:
    return {
        "lse_c": float(np.mean([f.confidence for f in figures])),
        "lse_d": float(np.mean([f.distance for f in figures])),
        "offset_right": float(np.mean([abs(f.offset) <= 1 for f in figures])),
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
    if config.judge is not None:
        net, side = load_judge(config.judge)
        _report(net, config, side, "test")
        return
    train = prepare(config.corpus, config.mouths, config.shape.side, "train")
    print(f"{len(train.clips)} clips to learn from", file=sys.stderr, flush=True)
    run = Run(SyncNetObjective(config), config, config.run)
    for step in run.steps("windows"):
        *batch, picks = batch_of(train, config.clips, config.moments, (config.run.seed, step))
        loss, terms = run.objective(*(leaf.to(run.fabric.device) for leaf in batch))
        amount = len(picks) * config.moments
        run.update(loss, terms, amount, lambda picks=picks: ", ".join(train.clips[i] for i in picks))
    objective = SyncNetObjective(config).eval()
    objective.load_state_dict(run.averaged())
    _report(objective.net, config, config.shape.side, "val", "test", "held_voice", "held_person")


def _report(net: nn.Module, config: SyncNetStageConfig, side: int, *splits: str) -> None:
    figures = {}
    for split in splits:
        try:
            figures[split] = judge_truth(net, prepare(config.corpus, config.mouths, side, split))
        except StageError as error:
            print(f"{split}: left out; {error}", file=sys.stderr)
    config.run.out.mkdir(parents=True, exist_ok=True)
    write_json(config.run.out / "figures.json", {"truth": figures, "config": asdict(config)})
    for split, f in figures.items():
        print(
            f"{split}: the truth has LSE-C {f['lse_c']:.3f}, LSE-D {f['lse_d']:.3f} ({f['lse_d_shifted']:.3f} out of time), "
            f"offset within a frame {f['offset_right']:.2f} of {f['clips']} clips, {f['run_offset_right']:.2f} of "
            f"{f['run_count']} runs of {RUN_FRAMES} frames",
            file=sys.stderr,
        )


if __name__ == "__main__":
    try:
        main()
    except (StageError, ClipError, WeightsError) as error:
        sys.exit(f"error: {error}")
