"""The voice leaves as late as the face, whatever the clocks: the delay line between two simulated sound cards."""

import numpy as np
import pytest

from engine.audio.monitor import EASE_S, Delay

BLOCK_S = 0.01


def clicks(rate: int, seconds: float) -> np.ndarray:
    """A click every second, from 0.5 s on."""
    sound = np.zeros(int(seconds * rate), np.float32)
    sound[rate // 2 :: rate] = 1.0
    return sound


def played(delay: Delay, sound: np.ndarray, rate: int, ppm: float = 0.0) -> np.ndarray:
    """Pushes by one clock and pulls by another, block by block; what came out."""
    out, pulled = [], 0
    for block in range(int(len(sound) / rate / BLOCK_S)):
        at = round(block * BLOCK_S * rate)
        delay.push(sound[at : at + round(BLOCK_S * rate)], rate)
        wanted = int((block + 1) * BLOCK_S * delay.rate * (1 + ppm * 1e-6))
        chunk = np.zeros((wanted - pulled, 1), np.float32)
        delay.pull(chunk)
        out.append(chunk[:, 0])
        pulled = wanted
    return np.concatenate(out)


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("wanted_s", [0.03, 0.12])
def test_a_click_comes_as_late_as_wanted(rate: int, wanted_s: float) -> None:
    delay = Delay(48000)
    delay.wanted_s = wanted_s
    out = played(delay, clicks(rate, 4.0), rate)
    peaks = [
        second * 48000 + int(np.argmax(np.abs(out[second * 48000 : (second + 1) * 48000]))) for second in range(1, 4)
    ]
    lags = [(peak / 48000) - (second + 0.5) for second, peak in zip(range(1, 4), peaks)]
    assert lags == pytest.approx([wanted_s] * 3, abs=EASE_S + BLOCK_S)
    assert delay.underruns <= 1


@pytest.mark.parametrize("ppm", [-200.0, 200.0])
def test_two_clocks_stay_together_for_minutes(ppm: float) -> None:
    delay = Delay(16000)
    delay.wanted_s = 0.08
    minute = np.random.default_rng(0).normal(0, 0.1, 60 * 16000).astype(np.float32)
    played(delay, minute[: 16000 * 5], 16000, ppm)
    underruns = delay.underruns
    for _ in range(2):
        played(delay, minute, 16000, ppm)
        assert delay.held_s == pytest.approx(0.08, abs=EASE_S + 0.006)
    assert delay.underruns == underruns


@pytest.mark.parametrize(("before_s", "after_s"), [(0.05, 0.4), (0.4, 0.05), (0.05, 0.08)])
def test_a_new_delay_is_reached(before_s: float, after_s: float) -> None:
    delay = Delay(16000)
    delay.wanted_s = before_s
    sound = np.random.default_rng(0).normal(0, 0.1, 16000 * 20).astype(np.float32)
    played(delay, sound[:32000], 16000)
    delay.wanted_s = after_s
    played(delay, sound, 16000)
    assert delay.held_s == pytest.approx(after_s, abs=EASE_S + 0.006)


def test_a_starved_output_is_silent_and_counted() -> None:
    delay = Delay(16000)
    delay.wanted_s = 0.02
    delay.push(np.ones(160, np.float32), 16000)
    out = np.ones((1600, 1), np.float32)
    delay.pull(out)
    assert delay.underruns == 1
    assert out[-1, 0] == 0.0
