"""Figures of one system: pictures against their truth, mouths against their sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.clip import Corpus
from training.data.face_runs import FaceRuns, Run
from training.data.mouths import Boxes, cut_mouth, mouth_boxes
from training.metrics.image import psnr, ssim
from training.models.speech2video.syncnet import Mfcc, Synchrony, distances, synchrony
from training.stages.run import StageError
from training.stages.speech2video import save_strip
from training.stages.syncnet import as_mouths, cepstra_of, load_judge

Pictures = NDArray[np.uint8]


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


def judge_of(syncnet: Path, corpora: Sequence[Path], runs: FaceRuns) -> Judge:
    """SyncNet, with sound and mouths' places of the runs' clips. Raises StageError for a clip that no corpus holds."""
    judge, wanted, extract = Judge(*load_judge(syncnet)), {run.clip for run in runs.runs}, Mfcc()
    for folder in corpora:
        for clip in Corpus(folder):
            if clip.info.id in wanted and clip.info.id not in judge.sounds:
                judge.sounds[clip.info.id] = cepstra_of(clip, extract)
                judge.boxes[clip.info.id] = mouth_boxes(clip.truth().landmarks, clip.info.size)
    if missing := wanted - set(judge.sounds):
        raise StageError(f"no corpus named with --corpus-folders holds clip {sorted(missing)[0]}, which has pictures")
    return judge


def as_tensor(pictures: Pictures) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float() / 255.0


def as_pictures(tensor: Tensor) -> Pictures:
    rgb: Pictures = np.round(255 * tensor.clamp(0, 1).permute(0, 2, 3, 1).numpy()).astype(np.uint8)
    return rgb


def strips(out: Path, name: str, drawn: Sequence[tuple[Run, Pictures, Pictures]], rows: int = 3) -> None:
    """Every other frame of some runs, drawn above true, at full size."""
    step = max(1, len(drawn) // rows)
    for number, (run, ours, true) in enumerate(drawn[::step][:rows]):
        save_strip(out / f"{name}_{number}_{run.person}.png", [as_tensor(ours)[::2], as_tensor(true)[::2]])
