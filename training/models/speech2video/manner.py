"""How something is said, measured: pitch, voicing and loudness by band, fifty times a second, inside the exported graph.

    sound [B, 320 n] at 16 kHz -> rows [B, n, 18]: voicing 0..1, pitch in octaves over 150 Hz times voicing, power in 16
    mel bands, 20 dB each

Contexts of the audio encoder tell what is said, and only roughly how high and how loud; a mood is in the latter (Scherer
2003). Pitch is the highest peak of the normalised autocorrelation (Boersma 1993, section 2), looked up at lags that are
spaced evenly in octaves. Nothing here is learned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.cpc import RATE, mel_pairs
from training.models.streaming import State

HOP = 320
"""Samples between two rows: 20 ms."""
TAIL = 768
"""Samples before its own that a row hears, 48 ms."""
BANDS = 16
FEATURES = 2 + BANDS
VOICING, PITCH = 0, 1

_DECIMATION = 4
_WIDTH, _STEP = 256, HOP // _DECIMATION  # of a window of pitch, after decimation: 64 ms every 20 ms
_LOW_HZ, _OCTAVES, _PER_OCTAVE = 62.5, 3, 24
_PITCH_AT = 150.0
_SHORTER = 0.033  # what an octave costs: a period is a period twice over as well
_QUIET = 1e-5  # mean power, -50 dB of full scale


class Manner(nn.Module):
    """`sound [B, 320 n] -> rows [B, n, 18]`; row `r` has heard samples up to `320 r + 319`, no later."""

    delay_hops = 0

    def __init__(self) -> None:
        super().__init__()
        width = _WIDTH
        rate = RATE / _DECIMATION
        lags = rate / (_LOW_HZ * 2 ** (torch.arange(_OCTAVES * _PER_OCTAVE + 1, dtype=torch.float64) / _PER_OCTAVE))
        angle = 2 * math.pi * torch.arange(width + 1, dtype=torch.float64) / (2 * width)
        time = torch.arange(width, dtype=torch.float64)
        self.constant("low", _low_pass()[None, None])
        self.constant("window", torch.hann_window(width, periodic=False, dtype=torch.float64))
        self.constant("dft", torch.cat([torch.cos(time[:, None] * angle), torch.sin(time[:, None] * angle)], 1))
        weight = torch.full((width + 1,), 2.0, dtype=torch.float64)
        weight[0] = weight[-1] = 1.0
        table = weight[:, None] * torch.cos(angle[:, None] * lags) / (2 * width)  # power spectrum -> autocorrelation
        own = (self.window.double() @ self.dft.double()).view(2, -1).square().sum(0)
        own = (own @ table) / (own @ weight / (2 * width))
        self.constant("table", table / own.clamp(min=1e-3))
        self.constant("weight", weight[:, None] / (2 * width))
        self.constant("cost", _SHORTER * torch.arange(len(lags) - 1, -1, -1, dtype=torch.float64) / _PER_OCTAVE)
        self.constant("octaves", torch.arange(len(lags)) / _PER_OCTAVE + math.log2(_LOW_HZ / _PITCH_AT))
        self.constant("pairs", mel_pairs(BANDS, 400, 1.0)[:, None])

    def constant(self, name: str, value: Tensor) -> None:
        """Follows from this file alone, so no checkpoint keeps it."""
        self.register_buffer(name, value.float(), persistent=False)

    def initial(self, batch: int) -> State:
        return {"tail": torch.zeros(batch, TAIL)}

    def step(self, state: State, chunk: Tensor) -> tuple[State, Tensor]:
        """`[B, 320 n]`: the sound since the last step."""
        sound = torch.cat([state["tail"], chunk], 1)
        voicing, pitch = self.periods(sound)
        rows = torch.cat([torch.stack([voicing, voicing * pitch], -1), self.bands(sound)], -1)
        return {"tail": sound[:, -TAIL:]}, rows

    def forward(self, sound: Tensor) -> Tensor:
        return self.step(self.initial(sound.shape[0]), sound)[1]

    def periods(self, sound: Tensor) -> tuple[Tensor, Tensor]:
        """How periodic each row is, 0..1, and its pitch in octaves over 150 Hz: `[B, n]` each."""
        slow = F.conv1d(sound[:, None], self.low, stride=_DECIMATION)[:, 0]
        count = (sound.shape[1] - TAIL) // HOP
        rows = slow[:, _STEP * torch.arange(count)[:, None] + torch.arange(_WIDTH)]
        loud = rows.square().mean(-1)
        rows = (rows - rows.mean(-1, keepdim=True)) * self.window
        real, imaginary = (rows @ self.dft).chunk(2, -1)
        power = real.square() + imaginary.square()
        likeness = (power @ self.table) / (power @ self.weight).clamp(min=1e-9)  # an exporter drops so small a summand
        best = (likeness - self.cost).argmax(-1, keepdim=True)
        steps = torch.arange(likeness.shape[-1])
        near = torch.where((steps - best).abs() <= 2, 40.0 * likeness, torch.full_like(likeness, -1e4)).softmax(-1)
        strength = likeness.gather(-1, best)[..., 0]
        voicing = torch.sigmoid(20.0 * (strength - 0.6)) * torch.sigmoid(
            2.0 * torch.log((loud / _QUIET).clamp(min=1e-6))
        )
        return voicing, near @ self.octaves

    def bands(self, sound: Tensor) -> Tensor:
        """Log power in mel bands, `[B, n, 16]`, 0 at -80 dB of full scale and 1 more for every 20 dB."""
        waves = F.conv1d(sound[:, None, TAIL - 80 :], self.pairs, stride=HOP)
        cosine, sine = waves.chunk(2, 1)
        return 0.5 * torch.log10(1.0 + 1e8 * (cosine.square() + sine.square())).transpose(1, 2)


def _low_pass(taps: int = 64) -> Tensor:
    """A windowed sinc that passes what a decimation by four keeps, `[taps]`."""
    t = torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2
    kernel = torch.sinc(t / _DECIMATION * 0.9) * torch.hann_window(taps + 2, periodic=False, dtype=torch.float64)[1:-1]
    return kernel / kernel.sum()
