"""The identity teacher T_id and the source of the identity maps: the VGG face recogniser, and its published weights.

    picture 0..1 -> five blocks of 3x3 convolutions, each halved by a pool -> fc6 -> fc7 (the feature) -> fc8 (people)

The published network has widths 64 128 256 512 512, 4,096 units in fc6 and fc7 and 2,622 people, and sees 224 x 224.
Smaller ones of the same form are trained on a corpus' people. Source: Parkhi, Vedaldi and Zisserman 2015, network D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.speech2video.published import WeightsError, read_published, renamed

FEATURE = 4096
MEAN_255 = (129.1863, 104.7624, 93.5940)
"""Mean colour of the faces that the published network was trained on, RGB of 0..255."""


@dataclass(frozen=True)
class VggConfig:
    """Shape of the recogniser. The default is small enough for one core; `published()` is the paper's."""

    widths: tuple[int, ...] = (12, 24, 48, 64, 64)
    counts: tuple[int, ...] = (1, 1, 2, 2, 2)
    size: int = 64
    hidden: int = 512
    feature: int = FEATURE
    people: int = 22

    @staticmethod
    def published() -> VggConfig:
        return VggConfig((64, 128, 256, 512, 512), (2, 2, 3, 3, 3), 224, 4096, 4096, 2622)


class VggFace(nn.Module):
    """`picture [B, 3, H, W]` 0..1 -> people `[B, people]` (logits). Pictures of another size are resized first."""

    def __init__(self, config: VggConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or VggConfig()
        widths = tuple(config.widths)
        self.blocks = nn.ModuleList()
        before = 3
        for width, count in zip(widths, config.counts, strict=True):
            self.blocks.append(
                nn.ModuleList(nn.Conv2d(before if i == 0 else width, width, 3, padding=1) for i in range(count))
            )
            before = width
        side = config.size // 2 ** len(widths)
        if side < 1:
            raise ValueError(f"pictures of {config.size} px are too small for {len(widths)} pools")
        self.fc6 = nn.Linear(widths[-1] * side * side, config.hidden)
        self.fc7 = nn.Linear(config.hidden, config.feature)
        self.fc8 = nn.Linear(config.feature, config.people)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.fc8.weight, std=config.feature**-0.5)

    def prepared(self, picture: Tensor) -> Tensor:
        """Mean colour off; published weights want 0..255, and the small network is content with the same over 64."""
        mean = picture.new_tensor(MEAN_255).view(1, 3, 1, 1)
        scale = 1.0 if self.config.size >= 224 else 1.0 / 64.0
        return (255.0 * picture - mean) * scale

    def pooled(self, picture: Tensor) -> list[Tensor]:
        """What leaves each of the five blocks, after its pool: `[B, width_k, H / 2^k, W / 2^k]`."""
        x, out = self.prepared(picture), []
        for block in self.blocks:
            for conv in block:
                x = torch.relu(conv(x))
            x = F.max_pool2d(x, 2)
            out.append(x)
        return out

    def feature(self, picture: Tensor) -> Tensor:
        """`nu* [B, 4096]`: fc7 before its rectifier, so that a student can be asked for values of either sign."""
        size = self.config.size
        if picture.shape[-1] != size:
            picture = F.interpolate(picture, (size, size), mode="bilinear", antialias=True)
        return self.fc7(torch.relu(self.fc6(self.pooled(picture)[-1].flatten(1))))

    def maps(self, picture: Tensor, sides: Sequence[int]) -> list[Tensor]:
        """The blocks' maps with these sides, in that order: what the inflated identity is compared with (eq. 4)."""
        by_side = {leaf.shape[-1]: leaf for leaf in self.pooled(picture)}
        if missing := [side for side in sides if side not in by_side]:
            raise ValueError(f"VGG of a {picture.shape[-1]} px picture has maps of {sorted(by_side)}, not {missing}")
        return [by_side[side] for side in sides]

    def map_widths(self, picture_size: int, sides: Sequence[int]) -> list[int]:
        """Channels of those maps."""
        by_side = {picture_size // 2 ** (k + 1): width for k, width in enumerate(self.config.widths)}
        return [by_side[side] for side in sides]

    def forward(self, picture: Tensor) -> Tensor:
        return self.fc8(torch.relu(self.feature(picture)))


def published_names(config: VggConfig) -> list[dict[str, str]]:
    """Our layers under the names of the two usual layouts: `conv1_1 ... fc8`, and torchvision's `features.0 ...`."""
    caffe, vision, place = {}, {}, 0
    for b, count in enumerate(config.counts):
        for i in range(count):
            caffe[f"blocks.{b}.{i}"] = f"conv{b + 1}_{i + 1}"
            vision[f"blocks.{b}.{i}"] = f"features.{place}"
            place += 2
        place += 1
    for name, number in (("fc6", 0), ("fc7", 3), ("fc8", 6)):
        caffe[name], vision[name] = name, f"classifier.{number}"
    return [caffe, vision]


def load_vgg_face(path: Path, config: VggConfig | None = None) -> VggFace:
    """The published recogniser from a file that the user names (.pth, .pt or .safetensors). Raises WeightsError."""
    model = VggFace(config or VggConfig.published())
    tensors = read_published(path)
    found = renamed(tensors, published_names(model.config), model.state_dict(), path, "VGGFace (conv1_1 ... fc8)")
    model.load_state_dict(found)
    return model.eval().requires_grad_(False)


__all__ = ["FEATURE", "VggConfig", "VggFace", "WeightsError", "load_vgg_face"]
