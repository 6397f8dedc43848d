"""The three judges of Speech2Video: identity (D_id), frames (D_fr), synchrony (D_sync). Scores: real 0, generated 1.

D_id sees three maps, each at its own scale; D_fr scores patches of a frame; D_sync sees a frame's lower half, where the
mouth is, beside the context of what is said.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 4, 2, padding=1), nn.LeakyReLU(0.2))


class IdentityDiscriminator(nn.Module):
    """D_id: maps `[B, width_i, s_i, s_i]`, one a scale -> a list of scores `[B]`."""

    def __init__(self, widths: Sequence[int], sides: Sequence[int], channels: int = 32) -> None:
        super().__init__()
        self.scales = nn.ModuleList()
        for width, side in zip(widths, sides, strict=True):
            layers: list[nn.Module] = []
            now = width
            while side > 4:
                layers.append(_down(now, channels))
                now, side = channels, side // 2
            self.scales.append(nn.Sequential(*layers, nn.Flatten(), nn.Linear(now * side * side, 1)))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [scale(leaf)[:, 0] for scale, leaf in zip(self.scales, maps, strict=True)]


class FrameDiscriminator(nn.Module):
    """D_fr: `picture [B, 3, S, S] -> scores [B, 1, S / 16, S / 16]`, one a patch."""

    def __init__(self, channels: int = 24) -> None:
        super().__init__()
        c = channels
        self.layers = nn.Sequential(
            _down(3, c), _down(c, 2 * c), _down(2 * c, 2 * c), _down(2 * c, 2 * c), nn.Conv2d(2 * c, 1, 3, padding=1)
        )

    def forward(self, picture: Tensor) -> Tensor:
        return self.layers(picture)


class SyncDiscriminator(nn.Module):
    """D_sync: `contexts [B, hops, C], picture [B, 3, S, S] -> scores [B]`."""

    def __init__(self, context: int, size: int = 128, channels: int = 24, hidden: int = 128) -> None:
        super().__init__()
        c = channels
        self.look = nn.Sequential(_down(3, c), _down(c, 2 * c), _down(2 * c, 2 * c), _down(2 * c, 2 * c), nn.Flatten())
        self.seen = nn.Linear(2 * c * (size // 16) * (size // 32), hidden)
        self.heard = nn.Linear(context, hidden)
        self.judge = nn.Sequential(nn.Linear(3 * hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))

    def forward(self, contexts: Tensor, picture: Tensor) -> Tensor:
        seen = self.seen(self.look(picture[:, :, picture.shape[2] // 2 :]))
        heard = self.heard(contexts.flatten(1))
        return self.judge(torch.cat([seen, heard, seen * heard], 1))[:, 0]


class Discriminators(nn.Module):
    """All three, so that one checkpoint holds them."""

    def __init__(self, context: int, widths: Sequence[int], sides: Sequence[int], size: int) -> None:
        super().__init__()
        self.identity = IdentityDiscriminator(widths, sides)
        self.frame = FrameDiscriminator()
        self.sync = SyncDiscriminator(context, size)
