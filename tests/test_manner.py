"""How something is said: pitch, voicing and loudness are what they are said to be, and stream."""

from __future__ import annotations

import math

import pytest
import torch
from contract import verify_contract

from training.models.speech2video.manner import HOP, PITCH, VOICING, Manner


def tone(hz: float, seconds: float = 1.0, level: float = 0.1) -> torch.Tensor:
    """A buzz of seven harmonics, `[1, 16000 seconds]`."""
    t = torch.arange(int(16_000 * seconds)) / 16_000
    return level * torch.stack([torch.sin(2 * math.pi * hz * k * t) / k for k in range(1, 8)]).sum(0)[None]


def test_streams_as_it_hears_offline() -> None:
    torch.manual_seed(0)
    sound = tone(140.0) * torch.linspace(0.1, 1, 16_000) + 0.002 * torch.randn(1, 16_000)
    verify_contract(Manner(), sound[:, : 40 * HOP], 40, 1, 1)


@pytest.mark.parametrize("hz", [70.0, 100.0, 150.0, 233.0, 400.0, 470.0])
def test_pitch_is_heard_within_a_quarter_of_a_semitone(hz: float) -> None:
    rows = Manner()(tone(hz))[0, 5:]
    assert float(rows[:, VOICING].min()) > 0.95
    octaves = rows[:, PITCH] / rows[:, VOICING]
    assert float((octaves - math.log2(hz / 150)).abs().max()) < 1 / 48


def test_noise_and_silence_have_no_pitch() -> None:
    torch.manual_seed(0)
    hiss = Manner()(0.1 * torch.randn(1, 32_000))[0]
    assert float(hiss[:, VOICING].mean()) < 0.1
    assert float(Manner()(torch.zeros(1, 16_000)).abs().max()) < 1e-12
    faint = Manner()(tone(150.0, level=1e-4))[0]
    assert float(faint[:, VOICING].max()) < 0.05


def test_twenty_decibels_are_one_more_in_every_band() -> None:
    torch.manual_seed(0)
    hiss = 0.05 * torch.randn(1, 32_000)
    soft, loud = Manner()(hiss)[0, 5:, 2:], Manner()(10 * hiss)[0, 5:, 2:]
    torch.testing.assert_close((loud - soft).mean(0), torch.ones(16), atol=0.02, rtol=0)


def test_nothing_of_it_goes_into_checkpoints() -> None:
    assert Manner().state_dict() == {}
