"""Pre-trains the audio encoder: contexts of spoiled speech learn to tell what follows (InfoNCE, 12 steps of 10 ms).

    python -m training.stages.cpc --audio SPEECH_FOLDER ... --out runs/cpc --time-limit 15

Speech is cut at random, sped up or slowed down (which moves pitch and formants with it) and spoiled by rooms, noise,
levels, bands and codecs; context and positives both come from the spoiled sound. Source: van den Oord et al. 2018.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import soxr
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.augment import SPEECH_LEVEL, no_speech, spoil
from training.data.sound import SoundError, Utterance, find_sounds, load_speech
from training.losses.infonce import anchor_times, infonce
from training.models.cpc import HOP_SAMPLES, RATE, AudioEncoder, AudioEncoderConfig, CpcPredictors
from training.stages.run import Run, RunOptions, StageError, read_config


@dataclass(frozen=True)
class CpcConfig:
    """Pre-training of the audio encoder."""

    audio: tuple[Path, ...] = ()
    """Folders with speech, searched with all they hold."""
    leave_out: tuple[str, ...] = ("arctic_b05",)
    """File names that begin so are never used: they are the held-out sentences."""
    batch: int = 24
    crop_hops: int = 192
    future_hops: int = 12
    anchors: int = 16
    """Moments of each crop that predict their future."""
    speed: float = 1.3
    """Largest speed-up (and slow-down) of a crop."""
    no_speech_share: float = 0.05
    encoder: AudioEncoderConfig = field(default_factory=AudioEncoderConfig)
    run: Annotated[RunOptions, tyro.conf.arg(name="")] = field(default_factory=lambda: RunOptions(out=Path("runs/cpc")))


class CpcObjective(nn.Module):
    """`samples [B, T], anchors [B, N] -> (loss, accuracy [K])`."""

    def __init__(self, config: CpcConfig) -> None:
        super().__init__()
        self.encoder = AudioEncoder(config.encoder)
        self.predictors = CpcPredictors(config.encoder.context_size, self.encoder.latent_size, config.future_hops)

    def forward(self, samples: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        _, latents, contexts = self.encoder.run(self.encoder.initial(samples.shape[0]), samples)
        rows = torch.arange(samples.shape[0], device=samples.device)[:, None]
        return infonce(self.predictors(contexts[rows, anchors].flatten(0, 1)), latents, anchors)


def crops(
    speech: list[Utterance], weights: NDArray[np.float64], config: CpcConfig, step: int
) -> tuple[Tensor, list[str]]:
    """Batch `step`: `[batch, 160 * crop_hops]` and the names of its recordings; a function of the seed and the step."""
    rng = np.random.default_rng([config.run.seed, step])
    length = HOP_SAMPLES * config.crop_hops
    batch, names = [], []
    for pick in rng.choice(len(speech), config.batch, p=weights):
        if rng.random() < config.no_speech_share:
            batch.append(no_speech(length, rng))
            names.append("no speech")
            continue
        speed = config.speed ** rng.uniform(-1.0, 1.0)
        wanted = round(length * speed) + 64
        start = int(rng.integers(-RATE // 4, max(len(speech[pick].samples) - wanted + RATE // 4, -RATE // 4 + 1)))
        crop = soxr.resample(speech[pick].cut(start, wanted), RATE * speed, RATE, "MQ")[:length]
        crop = np.pad(crop, (0, length - len(crop))) * np.float32(SPEECH_LEVEL / speech[pick].loudness)
        batch.append(spoil(crop, rng))
        names.append(speech[pick].name)
    return torch.from_numpy(np.stack(batch)), names


def main(arguments: list[str] | None = None) -> None:
    config = read_config(CpcConfig(), arguments)
    torch.manual_seed(config.run.seed)
    speech = load_speech(find_sounds(config.audio, config.leave_out))
    if not speech:
        raise StageError("no speech: name folders that hold opus, flac, wav or mp3 files with --audio")
    weights = np.array([len(utterance.samples) for utterance in speech], np.float64)
    print(f"{len(speech)} recordings, {weights.sum() / RATE / 60:.1f} minutes", file=sys.stderr)

    run = Run(CpcObjective(config), config, config.run)
    for step in run.steps():
        samples, names = crops(speech, weights / weights.sum(), config, step)
        anchors = anchor_times(
            config.batch,
            config.crop_hops,
            config.future_hops,
            config.anchors,
            warm_hops=24,
            seed=config.run.seed + step,
        )
        loss, accuracy = run.objective(samples.to(run.fabric.device), anchors.to(run.fabric.device))
        scalars = {"next": float(accuracy[0]), "40 ms": float(accuracy[3]), "120 ms": float(accuracy[-1])}
        run.update(loss, scalars, samples.numel() / RATE, lambda names=names: ", ".join(names))


if __name__ == "__main__":
    try:
        main()
    except (StageError, SoundError) as error:
        sys.exit(f"error: {error}")
