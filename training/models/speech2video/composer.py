"""The frame decoder F: what is said and felt through transposed convolutions, who speaks through a branch of its own.

    c_t ++ mu -> 4x4 -> 8x8 --(+)--> 16x16 --(+)--> 32x32 --(+)--> 64x64 -> 128x128 -> picture
                         ^            ^              ^
    nu ------> 4x4 -> 8x8 -> 1x1    16x16 -> 1x1   32x32 -> 1x1        the inflated identity, shaped like VGG's maps

(+) is the paper's fig. 2: concatenation, a transposed convolution, two 1x1 convolutions. Identity maps are aligned to a
VGG layer of the same size by a 1x1 convolution, and D_id holds them to VGG's own maps of the speaker (eq. 4). Without the
identity branch (an ablation), nu is concatenated to c_t ++ mu instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.models.speech2video.vgg import FEATURE

IDENTITY_SIDES = (8, 16, 32)


@dataclass(frozen=True)
class PaperComposerConfig:
    """Shape of F. `context_hops` newest contexts are heard at once: the paper's c_t has one."""

    context_size: int = 256
    context_hops: int = 1
    emotions: int = 6
    feature: int = FEATURE
    identity: int = 64
    """Width that nu is narrowed to before it is inflated."""
    width: int = 128
    map_widths: tuple[int, ...] = (48, 24, 12)
    """Channels of the VGG maps with sides 8, 16 and 32."""
    size: int = 128
    identity_branch: bool = True


class Join(nn.Module):
    """Fig. 2's (+): `[B, a, s, s], [B, b, s, s] -> [B, out, 2s, 2s]`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 4, 2, padding=1)
        self.norm = nn.GroupNorm(max(1, outputs // 8), outputs)
        self.first, self.second = nn.Conv2d(outputs, outputs, 1), nn.Conv2d(outputs, outputs, 1)

    def forward(self, x: Tensor, *maps: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.up(torch.cat([x, *maps], 1))))
        return x + self.second(torch.relu(self.first(x)))


class IdentityBranch(nn.Module):
    """`nu [B, D] -> ` inflated identity maps with sides 8, 16, 32: three transposed convolutions, each doubling."""

    def __init__(self, config: PaperComposerConfig) -> None:
        super().__init__()
        w = config.identity
        self.seed = nn.Sequential(nn.LayerNorm(config.feature), nn.Linear(config.feature, w * 16))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(w, w, 4, 2, padding=1) for _ in IDENTITY_SIDES)
        self.align = nn.ModuleList(nn.Conv2d(w, width, 1) for width in config.map_widths)

    def forward(self, nu: Tensor) -> list[Tensor]:
        x = torch.relu(self.seed(nu)).view(len(nu), -1, 4, 4)
        maps = []
        for grow, align in zip(self.grow, self.align, strict=True):
            x = torch.relu(grow(x))
            maps.append(torch.relu(align(x)))  # VGG's maps are rectified too
        return maps


class PaperComposer(nn.Module):
    """F(c_t, nu, mu): `contexts [B, hops, C], nu [B, D], mu [B, 6] -> (picture [B, 3, S, S] 0..1, identity maps)`."""

    def __init__(self, config: PaperComposerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PaperComposerConfig()
        w = config.width
        inputs = config.context_size * config.context_hops + config.emotions
        self.identity = IdentityBranch(config) if config.identity_branch else None
        if self.identity is None:
            self.who = nn.Sequential(nn.LayerNorm(config.feature), nn.Linear(config.feature, config.identity))
            inputs += config.identity
        joined = config.map_widths if config.identity_branch else (0, 0, 0)
        self.seed = nn.Linear(inputs, w * 16)
        self.start = nn.ConvTranspose2d(w, w, 4, 2, padding=1)
        self.joins = nn.ModuleList(
            [Join(w + joined[0], w), Join(w + joined[1], w // 2), Join(w // 2 + joined[2], w // 4)]
        )
        ups, side, now = [], 64, w // 4
        while side < config.size:
            ups += [nn.ConvTranspose2d(now, now // 2, 4, 2, padding=1), nn.ReLU()]
            side, now = 2 * side, now // 2
        self.last = nn.Sequential(*ups, nn.Conv2d(now, now, 3, padding=1), nn.ReLU(), nn.Conv2d(now, 3, 3, padding=1))

    def forward(self, contexts: Tensor, nu: Tensor, mu: Tensor) -> tuple[Tensor, list[Tensor]]:
        heard = [contexts.flatten(1), mu]
        maps: list[Tensor] = []
        if self.identity is None:
            heard.append(self.who(nu))
        else:
            maps = self.identity(nu)
        x = torch.relu(self.seed(torch.cat(heard, 1))).view(len(nu), -1, 4, 4)
        x = torch.relu(self.start(x))
        for number, join in enumerate(self.joins):
            x = join(x, *maps[number : number + 1])
        return torch.sigmoid(self.last(x)), maps
