"""The audio encoder: raw samples to contexts at 100 Hz, by contrastive predictive coding (CPC).

Five causal strided convolutions `g_enc` turn 160 samples into one latent `z_t`; one GRU `g_ar` sums up `z_<=t` in the
context `c_t`. Two front ends are built, chosen by measurement (`docs/hearing.md`):

`waveform`  the published layers, kernels 10 8 4 4 4 and strides 5 4 2 2 2, narrower where the rate is high.
`bank`      the first convolution spans 25 ms and starts as mel-spaced cosine and sine pairs whose summed squares are
            compressed by a logarithm; four more convolutions follow. All five are learned.

Source: van den Oord, Li and Vinyals 2018, section 3.1; mel spacing after Stevens et al. 1937.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.streaming import CausalConv, CausalGru, ChannelNorm, State, scoped, under

RATE = 16000
HOP_SAMPLES = 160


@dataclass(frozen=True)
class AudioEncoderConfig:
    """Shape of the audio encoder; stored beside its weights, so that a checkpoint says how to rebuild it."""

    front: Literal["bank", "waveform"] = "bank"
    context_size: int = 256
    bands: int = 64
    width: int = 192


class FilterBank(nn.Module):
    """Learned filters over the raw waveform, `[B, 1, T] -> [B, bands, T / 80]`: log(1 + power / floor), 0 in silence.

    The floor of a band lies near -80 dB of full scale. Filters start as Hann-windowed pairs spaced on the mel scale.
    """

    kernel, stride, floor = 400, 80, 1e-8

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands = bands
        self.filters = CausalConv(1, 2 * bands, self.kernel, self.stride)
        with torch.no_grad():
            self.filters.conv.weight.copy_(mel_pairs(bands, self.kernel, self.floor)[:, None])
            self.filters.conv.bias.zero_()

    def initial(self, batch: int) -> State:
        return self.filters.initial(batch)

    def step(self, state: State, chunk: Tensor) -> tuple[State, Tensor]:
        state, waves = self.filters.step(state, chunk)
        cosine, sine = waves.split(self.bands, dim=1)
        power = cosine.square() + sine.square()
        return state, 0.25 * torch.log(1.0 + power)


def mel_pairs(bands: int, kernel: int, floor: float) -> Tensor:
    """`[2 * bands, kernel]` windowed cosines then sines, scaled so that power 1 lies at `floor`."""
    mel = torch.linspace(_to_mel(60.0), _to_mel(7600.0), bands + 2, dtype=torch.float64)
    edges_hz = 700.0 * (torch.exp(mel / 1127.0) - 1.0)
    centres_hz = edges_hz[1:-1]
    # a band no wider than its neighbours' distance: long windows low down, short ones high up, 6 ms to 25 ms
    lengths = (2.2 * RATE / (edges_hz[2:] - edges_hz[:-2])).clamp(0.006 * RATE, kernel)
    time = torch.arange(kernel, dtype=torch.float64) - (kernel - 1) / 2.0
    distance = time[None] / lengths[:, None]
    window = torch.where(distance.abs() < 0.5, torch.cos(math.pi * distance).square(), 0.0)
    window = window / window.sum(dim=1, keepdim=True)
    phase = 2.0 * math.pi * centres_hz[:, None] * time[None] / RATE
    pairs = torch.cat([window * torch.cos(phase), window * torch.sin(phase)])
    return (pairs * floor**-0.5).float()


def _to_mel(hz: float) -> float:
    return 1127.0 * math.log(1.0 + hz / 700.0)


class ConvUnit(nn.Module):
    """Convolution, channel norm, rectifier, `[B, C_in, T] -> [B, C_out, T / stride]`; residual if shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = CausalConv(inputs, outputs, kernel, stride)
        self.norm = ChannelNorm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def initial(self, batch: int) -> State:
        return self.conv.initial(batch)

    def step(self, state: State, chunk: Tensor) -> tuple[State, Tensor]:
        state, out = self.conv.step(state, chunk)
        out = F.relu(self.norm(out))
        return state, chunk + out if self.residual else out


class AudioEncoder(nn.Module):
    """`samples [B, T] float32 in -1..1 -> contexts [B, T / 160, C]`, 100 Hz; `T` is a multiple of 160.

    `step` takes one hop `[B, 160]` and returns `[B, C]` (of n hops, `[B, n, C]`). Context `h` has heard samples up to
    `160 h + 159`, no later.
    """

    delay_hops = 0

    def __init__(self, config: AudioEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AudioEncoderConfig()
        if config.front == "bank":
            w = config.width
            layers: list[nn.Module] = [FilterBank(config.bands), ConvUnit(config.bands, w, 4, 2)]
            layers += [ConvUnit(w, w, 3, 1) for _ in range(3)]
        else:
            sizes = [1, 32, 64, 128, config.width, config.width]
            shapes = [(10, 5), (8, 4), (4, 2), (4, 2), (4, 2)]
            layers = [ConvUnit(sizes[i], sizes[i + 1], *shapes[i]) for i in range(5)]
        self.convs = nn.ModuleList(layers)
        self.recurrent = CausalGru(config.width, config.context_size)

    @property
    def latent_size(self) -> int:
        return self.config.width

    def initial(self, batch: int) -> State:
        state: State = {}
        for i, conv in enumerate(self.convs):
            state |= under(f"conv{i}", conv.initial(batch))
        return state | under("gru", self.recurrent.initial(batch))

    def run(self, state: State, samples: Tensor) -> tuple[State, Tensor, Tensor]:
        """`samples [B, 160 n] -> (state, latents [B, n, width], contexts [B, n, C])`."""
        x, after = samples[:, None], {}
        for i, conv in enumerate(self.convs):
            conv_state, x = conv.step(scoped(state, f"conv{i}"), x)
            after |= under(f"conv{i}", conv_state)
        latents = x.transpose(1, 2)
        gru_state, contexts = self.recurrent.step(scoped(state, "gru"), latents)
        return after | under("gru", gru_state), latents, contexts

    def step(self, state: State, samples: Tensor) -> tuple[State, Tensor]:
        state, _, contexts = self.run(state, samples)
        return state, contexts[:, 0] if samples.shape[1] == HOP_SAMPLES else contexts

    def forward(self, samples: Tensor) -> Tensor:
        return self.run(self.initial(samples.shape[0]), samples)[2]


class AudioEncoderStep(nn.Module):
    """One hop with positional state, for export: `(samples [1, 160], *leaves) -> (context [1, C], *leaves)`.

    Leaves come and go in the order of `state_names`; `initial` gives them by name, zeros.
    """

    def __init__(self, encoder: AudioEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.context_size = encoder.config.context_size
        self.state_names = list(encoder.initial(1))

    def initial(self, batch: int = 1) -> State:
        return self.encoder.initial(batch)

    def step(self, state: State, samples: Tensor) -> tuple[State, Tensor]:
        return self.encoder.step(state, samples)

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes: a hop of silence and the state at the start."""
        return (torch.zeros(1, HOP_SAMPLES), *self.encoder.initial(1).values())

    def forward(self, samples: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
        state, context = self.encoder.step(dict(zip(self.state_names, leaves, strict=True)), samples)
        return (context, *(state[name] for name in self.state_names))


class CpcPredictors(nn.Module):
    """`W_k c_t` for each future step k = 1..K: contexts `[N, C] -> [K, N, width]`. Used in pre-training alone."""

    def __init__(self, context_size: int, latent_size: int, steps: int = 12) -> None:
        super().__init__()
        self.steps = steps
        self.linear = nn.Linear(context_size, steps * latent_size, bias=False)

    def forward(self, contexts: Tensor) -> Tensor:
        n = contexts.shape[0]
        return self.linear(contexts).view(n, self.steps, -1).transpose(0, 1)
