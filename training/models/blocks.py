"""Small parts of painter and turner: separable residual blocks modulated by a condition (FiLM), and soft windows.

All modulations of a network come out of one linear layer (`Film`), which keeps the exported graph short.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class FilmBlock(nn.Module):
    """x + 1x1(relu(FiLM(depthwise k x k))); modulation is (gain, bias), each [B, channels, 1, 1]."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.channels = channels
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.point = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, modulation: Iterator[Tensor]) -> Tensor:
        gain, bias = next(modulation), next(modulation)
        return x + self.point(torch.relu(self.depthwise(x) * (1 + gain) + bias))


class Up(nn.Module):
    """Twice the size: 1x1, PixelShuffle, FilmBlock."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.widen, self.shuffle = nn.Conv2d(channels_in, channels * 4, 1), nn.PixelShuffle(2)
        self.block = FilmBlock(channels)

    def forward(self, x: Tensor, modulation: Iterator[Tensor]) -> Tensor:
        return self.block(self.shuffle(self.widen(x)), modulation)


class Film(nn.Module):
    """Condition [B, inputs] -> the modulations of a network's blocks, handed out in the order of their use."""

    def __init__(self, inputs: int, hidden: int, channels: list[int]) -> None:
        super().__init__()
        self.sizes = [c for c in channels for _ in range(2)]
        self.sense = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.out = nn.Linear(hidden, sum(self.sizes))

    def forward(self, condition: Tensor) -> Iterator[Tensor]:
        return iter(self.out(self.sense(condition)).unsqueeze(2).unsqueeze(3).split(self.sizes, 1))


def feather(height: int, width: int, edge: int) -> Tensor:
    """[1, 1, height, width] window: 0 at the rim, 1 from `edge` cells inwards, smooth between."""

    def ramp(n: int) -> Tensor:
        t = ((torch.arange(n) + 0.5).minimum(n - 0.5 - torch.arange(n)) / edge).clamp(max=1)
        return t * t * (3 - 2 * t)

    return (ramp(height)[:, None] * ramp(width)[None]).view(1, 1, height, width)
