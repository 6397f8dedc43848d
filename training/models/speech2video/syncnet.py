"""SyncNet: do mouth and voice belong to the same moment? Confidence (LSE-C), distance (LSE-D) and offset.

Five frames of the mouth and the 0.2 s of sound that go with them are brought to one space; matching ones lie near each
other. Shifting the sound against the picture, frame by frame, gives a curve of distances: its least value is LSE-D, the
median less the least LSE-C, and where it lies is the offset. Source: Chung and Zisserman 2016; the names LSE-C and LSE-D
after Prajwal et al. 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.speech2video.published import WeightsError, read_published, renamed

RATE, FPS = 16_000, 30
FRAMES = 5
MFCC_HOPS = 20  # of 10 ms: 0.2 s
SEARCH = 15  # frames either way


@dataclass(frozen=True)
class SyncNetConfig:
    """Shape of a network for training; the published one is `PublishedSyncNet`."""

    side: int = 32
    width: int = 32
    embedding: int = 128
    coefficients: int = 13


class Mfcc(nn.Module):
    """`samples [B, n] -> [B, 13, n / 160]`: 13 cepstral coefficients, windows of 25 ms that end with their hop.

    Source: Davis and Mermelstein 1980; 26 mel bands, orthonormal DCT-II.
    """

    def __init__(self, coefficients: int = 13, bands: int = 26, size: int = 512) -> None:
        super().__init__()
        mel = torch.linspace(0, 1127 * math.log(1 + 8000 / 700), bands + 2)
        hz = 700 * ((mel / 1127).exp() - 1)
        at = torch.arange(size // 2 + 1) * RATE / size
        rise = (at[None] - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
        fall = (hz[2:, None] - at[None]) / (hz[2:] - hz[1:-1])[:, None]
        n, k = torch.arange(bands), torch.arange(coefficients)[:, None]
        dct = torch.cos(math.pi * (n + 0.5) * k / bands) * math.sqrt(2 / bands)
        dct[0] *= math.sqrt(0.5)
        self.register_buffer("bank", torch.minimum(rise, fall).clamp(min=0), persistent=False)
        self.register_buffer("dct", dct, persistent=False)
        self.register_buffer("window", torch.hann_window(400), persistent=False)
        self.size = size

    def forward(self, samples: Tensor) -> Tensor:
        cut = F.pad(samples, (240, 0)).unfold(1, 400, 160) * self.window
        power = torch.fft.rfft(cut, self.size).abs().square() / self.size
        bands = (power @ self.bank.T + 1e-8).log()
        return (bands @ self.dct.T).transpose(1, 2)


def _conv(inputs: int, outputs: int, stride: int | tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.GroupNorm(max(1, outputs // 8), outputs), nn.ReLU()
    )


class SyncNet(nn.Module):
    """`hear(mfcc [B, 13, 20])` and `see(mouths [B, 15, side, side])` -> embeddings `[B, E]` of length 1."""

    def __init__(self, config: SyncNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SyncNetConfig()
        w = config.width
        self.audio = nn.Sequential(
            _conv(1, w, 1), _conv(w, 2 * w, (2, 1)), _conv(2 * w, 2 * w, 2), _conv(2 * w, 4 * w, 2), nn.Flatten()
        )
        heard = 4 * w * math.ceil(math.ceil(math.ceil(config.coefficients / 2) / 2) / 2) * (MFCC_HOPS // 4)
        self.voice = nn.Linear(heard, config.embedding)
        self.picture = nn.Sequential(
            _conv(3 * FRAMES, w, 2), _conv(w, 2 * w, 2), _conv(2 * w, 4 * w, 2), _conv(4 * w, 4 * w, 2), nn.Flatten()
        )
        self.mouth = nn.Linear(4 * w * (config.side // 16) ** 2, config.embedding)

    def hear(self, mfcc: Tensor) -> Tensor:
        return F.normalize(self.voice(self.audio(mfcc.unsqueeze(1) / 8.0)), dim=1)

    def see(self, mouths: Tensor) -> Tensor:
        return F.normalize(self.mouth(self.picture(mouths - 0.5)), dim=1)


def stacks(mouths: Tensor) -> Tensor:
    """A run of mouths `[n, 3, side, side] -> [n - 4, 15, side, side]`, five in a row each."""
    return torch.stack([mouths[k : k + FRAMES].flatten(0, 1) for k in range(len(mouths) - FRAMES + 1)])


def first_hop(frame: int) -> int:
    """The MFCC hop at which the sound of five frames from `frame` on begins."""
    return (frame * 100 + FPS // 2) // FPS


def sound_windows(mfcc: Tensor, frames: list[int]) -> Tensor:
    """`[13, T] -> [len(frames), 13, 20]`; beyond either end the nearest hop is repeated."""
    index = torch.tensor([[first_hop(frame) + k for k in range(MFCC_HOPS)] for frame in frames])
    return mfcc[:, index.clamp(0, mfcc.shape[1] - 1)].transpose(0, 1)


@dataclass(frozen=True)
class Synchrony:
    """`confidence` is LSE-C, `distance` LSE-D, `offset` in frames: positive when the sound lags behind the picture."""

    confidence: float
    distance: float
    offset: int


def distances(net: nn.Module, mouths: Tensor, mfcc: Tensor, first: int, search: int = SEARCH) -> Tensor:
    """A run of mouths `[n, 3, side, side]` from frame `first` of a clip with `mfcc [13, T]` -> `[n - 4, 2 search + 1]`:
    the distance of each five frames to the sound shifted by -search .. search frames.
    """
    with torch.no_grad():
        seen = net.see(stacks(mouths))
        windows, shifts = len(seen), 2 * search + 1
        heard = net.hear(sound_windows(mfcc, list(range(first - search, first + windows + search))))
        index = torch.arange(windows)[:, None] + torch.arange(shifts)[None]
        return (heard[index] - seen[:, None]).square().sum(2).sqrt()


def synchrony(curves: Tensor) -> Synchrony:
    """Curves of distances `[windows, shifts]` of one clip -> its figures, from the mean curve as SyncNet's authors do."""
    mean = curves.mean(0)
    least = int(mean.argmin())
    return Synchrony(float(mean.median() - mean[least]), float(mean[least]), least - (len(mean) // 2))


class PublishedSyncNet(nn.Module):
    """The published network (`syncnet_v2.model`), for mouths of 224 x 224 at 25 fps; same two doors as `SyncNet`.

    `hear(mfcc [B, 13, 20])`, `see(mouths [B, 15, 224, 224])` 0..1 -> `[B, 1024]`. Source: Chung and Zisserman 2016.
    """

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_published(1, 64, (3, 3), (1, 1), (1, 1)),
            nn.MaxPool2d((1, 1), (1, 1)),
            *_published(64, 192, (3, 3), (1, 1), (1, 1)),
            nn.MaxPool2d((3, 3), (1, 2)),
            *_published(192, 384, (3, 3), (1, 1), (1, 1)),
            *_published(384, 256, (3, 3), (1, 1), (1, 1)),
            *_published(256, 256, (3, 3), (1, 1), (1, 1)),
            nn.MaxPool2d((3, 3), (2, 2)),
            *_published(256, 512, (5, 4), (1, 1), (0, 0)),
        )
        self.netfcaud = _head()
        self.netcnnlip = nn.Sequential(
            nn.Conv3d(3, 96, (5, 7, 7), (1, 2, 2)), nn.BatchNorm3d(96), nn.ReLU(), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            nn.Conv3d(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1)), nn.BatchNorm3d(256), nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            nn.Conv3d(256, 256, (1, 3, 3), 1, (0, 1, 1)), nn.BatchNorm3d(256), nn.ReLU(),
            nn.Conv3d(256, 256, (1, 3, 3), 1, (0, 1, 1)), nn.BatchNorm3d(256), nn.ReLU(),
            nn.Conv3d(256, 256, (1, 3, 3), 1, (0, 1, 1)), nn.BatchNorm3d(256), nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            nn.Conv3d(256, 512, (1, 6, 6)), nn.BatchNorm3d(512), nn.ReLU(),
        )  # fmt: skip
        self.netfclip = _head()

    def hear(self, mfcc: Tensor) -> Tensor:
        return self.netfcaud(self.netcnnaud(mfcc.unsqueeze(1)).flatten(1))

    def see(self, mouths: Tensor) -> Tensor:
        frames = mouths.view(len(mouths), FRAMES, 3, *mouths.shape[2:]).transpose(1, 2)
        return self.netfclip(self.netcnnlip(255.0 * frames.flip(1)).flatten(1))  # blue first, as OpenCV reads


def _published(inputs: int, outputs: int, kernel: tuple, stride: tuple, padding: tuple) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.BatchNorm2d(outputs), nn.ReLU()]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


def load_syncnet(path: Path) -> PublishedSyncNet:
    """The published SyncNet from a file that the user names. Raises WeightsError."""
    model = PublishedSyncNet()
    tensors = read_published(path)
    # normalisations count their batches; some files leave that out
    wanted = {name: leaf for name, leaf in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    found = renamed(tensors, [{}], wanted, path, "SyncNet (netcnnaud, netfcaud, netcnnlip, netfclip)")
    model.load_state_dict(found, strict=False)
    return model.eval().requires_grad_(False)


__all__ = ["PublishedSyncNet", "SyncNet", "SyncNetConfig", "Synchrony", "WeightsError", "load_syncnet", "synchrony"]
