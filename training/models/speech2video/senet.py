"""The expression teacher T_emo: a residual network with squeeze and excitation, and its published FER+ weights.

A block narrows, looks about (3x3), widens, weighs its channels by what it sees of the whole picture, and adds its input.
The published one is SE-ResNet-50 (3 4 6 3 blocks) trained on FER+; smaller ones of the same form are trained on a corpus'
moods. Sources: Hu, Shen and Sun 2018; Barsoum et al. 2016 (FER+); Albanie and Vedaldi 2018 (the published weights).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.speech2video.published import read_published, renamed

MEAN_255 = (131.0912, 103.8827, 91.4953)
FER_PLUS = ("neutral", "happy", "surprise", "sad", "anger", "disgust", "fear", "contempt")
EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad")


@dataclass(frozen=True)
class SenetConfig:
    """Shape of the network. `norm`: `batch` keeps published statistics fixed, `group` is for training from nothing."""

    blocks: tuple[int, ...] = (1, 1, 1, 1)
    width: int = 16
    size: int = 64
    norm: Literal["group", "batch"] = "group"
    classes: tuple[str, ...] = EMOTIONS

    @staticmethod
    def published() -> SenetConfig:
        return SenetConfig((3, 4, 6, 3), 64, 224, "batch", FER_PLUS)


class FixedNorm(nn.Module):
    """Batch normalisation with the statistics of a training that is over; nothing in it changes any more."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


def _norm(kind: str, channels: int) -> nn.Module:
    return FixedNorm(channels) if kind == "batch" else nn.GroupNorm(max(1, channels // 8), channels)


class SenetBlock(nn.Module):
    """`[B, inputs, H, W] -> [B, 4 width, H / stride, W / stride]`."""

    def __init__(self, inputs: int, width: int, stride: int, norm: str) -> None:
        super().__init__()
        out = 4 * width
        self.reduce, self.reduce_bn = nn.Conv2d(inputs, width, 1, stride, bias=False), _norm(norm, width)
        self.look, self.look_bn = nn.Conv2d(width, width, 3, padding=1, bias=False), _norm(norm, width)
        self.increase, self.increase_bn = nn.Conv2d(width, out, 1, bias=False), _norm(norm, out)
        self.down, self.up = nn.Conv2d(out, out // 16, 1), nn.Conv2d(out // 16, out, 1)
        self.project = self.project_bn = None
        if inputs != out:
            self.project, self.project_bn = nn.Conv2d(inputs, out, 1, stride, bias=False), _norm(norm, out)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.reduce_bn(self.reduce(x)))
        y = torch.relu(self.look_bn(self.look(y)))
        y = self.increase_bn(self.increase(y))
        y = y * torch.sigmoid(self.up(torch.relu(self.down(y.mean((2, 3), keepdim=True)))))
        kept = x if self.project is None else self.project_bn(self.project(x))
        return torch.relu(y + kept)


class Senet(nn.Module):
    """`picture [B, 3, H, W]` 0..1 -> `mu* [B, classes]`, logits of the expressions named in `config.classes`."""

    def __init__(self, config: SenetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SenetConfig()
        self.stem = nn.Conv2d(3, config.width, 7, 2, padding=3, bias=False)
        self.stem_bn = _norm(config.norm, config.width)
        self.stages = nn.ModuleList()
        inputs, width = config.width, config.width
        for k, count in enumerate(config.blocks):
            stage = nn.ModuleList()
            for i in range(count):
                stage.append(SenetBlock(inputs, width, 2 if k and not i else 1, config.norm))
                inputs = 4 * width
            self.stages.append(stage)
            width *= 2
        self.classifier = nn.Linear(inputs, len(config.classes))

    def forward(self, picture: Tensor) -> Tensor:
        size = self.config.size
        if picture.shape[-1] != size:
            picture = F.interpolate(picture, (size, size), mode="bilinear", antialias=True)
        mean = picture.new_tensor(MEAN_255).view(1, 3, 1, 1)
        x = (255.0 * picture - mean) * (1.0 if self.config.norm == "batch" else 1.0 / 64.0)
        x = F.max_pool2d(torch.relu(self.stem_bn(self.stem(x))), 3, 2, ceil_mode=True)
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return self.classifier(x.mean((2, 3)))


def as_corpus_emotions(logits: Tensor, classes: tuple[str, ...]) -> Tensor:
    """`[B, classes] -> [B, 6]` in the corpus' order; classes that it does not know (surprise, contempt) are dropped."""
    return logits[:, [classes.index(name) for name in EMOTIONS]]


def published_names(config: SenetConfig) -> dict[str, str]:
    """Our layers under the names of the published file: `conv1_7x7_s2`, `conv2_1_1x1_reduce`, ..., `classifier`."""
    names = {"stem": "conv1_7x7_s2", "stem_bn": "conv1_7x7_s2_bn", "classifier": "classifier"}
    parts = {"reduce": "1x1_reduce", "look": "3x3", "increase": "1x1_increase", "project": "1x1_proj"}
    for s, count in enumerate(config.blocks):
        for b in range(count):
            ours, theirs = f"stages.{s}.{b}", f"conv{s + 2}_{b + 1}"
            for part, word in parts.items():
                names[f"{ours}.{part}"] = f"{theirs}_{word}"
                names[f"{ours}.{part}_bn"] = f"{theirs}_{word}_bn"
            names[f"{ours}.down"], names[f"{ours}.up"] = f"{theirs}_1x1_down", f"{theirs}_1x1_up"
    return names


def load_senet_fer(path: Path, config: SenetConfig | None = None) -> Senet:
    """The published FER+ network from a file that the user names (.pth or .safetensors). Raises WeightsError."""
    model = Senet(config or SenetConfig.published())
    tensors = read_published(path)
    found = renamed(tensors, [published_names(model.config)], model.state_dict(), path, "SENet-50 (FER+)")
    model.load_state_dict(found)
    return model.eval().requires_grad_(False)
