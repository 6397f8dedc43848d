"""What microphones, rooms and connections do to a voice: augmentations of `[n] float32` waveforms at 16 kHz.

Every function is pure: samples and a numpy Generator in, samples of the same length out. None shifts the sound in time
(a room keeps its direct path at sample 0, filters run without lag), so truth beside the sound stays in step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

RATE = 16000
SPEECH_LEVEL = 0.05
"""Root mean square of speech before it is spoiled, -26 dBFS; callers bring their recordings to it."""
Samples = NDArray[np.float32]
Rng = np.random.Generator


def level(samples: Samples) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)) + 1e-20))


def decibels(db: float) -> float:
    return float(10.0 ** (db / 20.0))


def gain(samples: Samples, rng: Rng) -> Samples:
    """Speech anywhere between -44 and -12 dBFS (over 30 dB), clipped at full scale as a converter would."""
    return np.clip(samples * np.float32(decibels(rng.uniform(-18.0, 14.0))), -1.0, 1.0)


def coloured_noise(n: int, rng: Rng) -> Samples:
    """Noise with a spectral slope of +2 to -9 dB an octave and one broad resonance, level 1: hiss, fans, traffic."""
    size = fft.next_fast_len(n, real=True)
    spectrum = fft.rfft(rng.standard_normal(size, dtype=np.float32))
    hz = np.linspace(0.0, RATE / 2, len(spectrum), dtype=np.float32)
    octaves = np.log2(np.maximum(hz, 40.0) / 1000.0)
    shape = rng.uniform(-9.0, 2.0) * octaves
    shape += rng.uniform(0.0, 12.0) * np.exp(-np.square((octaves - rng.uniform(-3.0, 2.0)) / 0.4))
    out = fft.irfft(spectrum * np.power(10.0, shape / 20.0, dtype=np.float32), size)[:n]
    return (out / level(out)).astype(np.float32)


def music(n: int, rng: Rng) -> Samples:
    """Chords of decaying harmonic notes over a pulse of noise, level 1: no music, but with pitch, beat and bands."""
    out = np.zeros(n, np.float32)
    beat = int(RATE * rng.uniform(0.18, 0.6))
    scale = 110.0 * np.power(2.0, np.array([0, 2, 3, 5, 7, 8, 10, 12, 14, 15, 17, 19, 24]) / 12.0)
    strength = np.power(np.arange(1, 9), -rng.uniform(0.6, 2.0))
    for start in range(-beat, n, beat):
        length = int(beat * rng.uniform(1.0, 3.0))
        time = np.arange(length, dtype=np.float32) / RATE
        envelope = np.minimum(time / 0.01, 1.0) * np.exp(-time * rng.uniform(1.5, 8.0))
        note = np.zeros(length, np.float32)
        for f0 in rng.choice(scale, rng.integers(1, 4)) * rng.choice([1.0, 2.0]):
            count = min(8, int(7000 / f0))
            phase = 2 * np.pi * f0 * np.outer(np.arange(1, count + 1), time).astype(np.float32)
            note += (strength[:count, None] * np.sin(phase)).sum(0).astype(np.float32)
        drum = rng.standard_normal(min(length, 2400), dtype=np.float32) * rng.uniform(0.0, 2.0)
        note[: len(drum)] += drum * np.exp(-np.arange(len(drum)) / 400.0).astype(np.float32)
        first, last = max(start, 0), min(start + length, n)
        out[first:last] += (note * envelope)[first - start : last - start]
    return out / np.float32(level(out))


def add_noise(samples: Samples, rng: Rng, low_db: float = 3.0, high_db: float = 35.0) -> Samples:
    """Steady or musical noise under the speech, at a signal-to-noise ratio between `low_db` and `high_db`."""
    noise = music(len(samples), rng) if rng.random() < 0.2 else coloured_noise(len(samples), rng)
    snr_db = rng.uniform(low_db, high_db)
    return samples + noise * np.float32(SPEECH_LEVEL / decibels(snr_db))


def room(samples: Samples, rng: Rng) -> Samples:
    """Direct sound, a few early reflections and an exponential tail: 0.1 to 0.7 s to -60 dB, direct path at lag 0."""
    decay_s = rng.uniform(0.1, 0.7)
    n = int(RATE * min(decay_s, 0.5))
    tail = rng.standard_normal(n).astype(np.float32) * np.exp(-6.9 * np.arange(n) / (decay_s * RATE)).astype(np.float32)
    tail[: int(RATE * rng.uniform(0.002, 0.012))] = 0.0
    tail *= np.float32(decibels(rng.uniform(-18.0, -2.0)) / np.sqrt(np.square(tail).sum() + 1e-9))
    for at in rng.integers(int(0.001 * RATE), int(0.025 * RATE), 5):
        tail[at] += rng.uniform(-0.35, 0.35)
    tail[0] = 1.0
    return signal.oaconvolve(samples, tail)[: len(samples)].astype(np.float32)


def band_limit(samples: Samples, rng: Rng) -> Samples:
    """A narrow pass band: telephone (0.3-3.4 kHz), 8 kHz headset, laptop without bass, or a dull microphone."""
    low, high = [(300.0, 3400.0), (80.0, 3900.0), (250.0, 7800.0), (60.0, 5500.0)][rng.integers(4)]
    low, high = low * rng.uniform(0.8, 1.25), min(high * rng.uniform(0.85, 1.15), 7900.0)
    return _shape(samples, lambda hz: 1.0 / np.sqrt(1.0 + (low / np.maximum(hz, 1.0)) ** 8 + (hz / high) ** 16))


def tilt(samples: Samples, rng: Rng) -> Samples:
    """The colour of another microphone: a slope of +-4 dB an octave and two resonances of +-8 dB."""
    slope = rng.uniform(-4.0, 4.0)
    peaks = [(rng.uniform(-8.0, 8.0), rng.uniform(-3.0, 2.8), rng.uniform(0.2, 0.8)) for _ in range(2)]

    def response(hz: NDArray[np.float32]) -> NDArray[np.float32]:
        octaves = np.log2(np.maximum(hz, 60.0) / 1000.0)
        db = slope * octaves + sum(h * np.exp(-np.square((octaves - at) / width)) for h, at, width in peaks)
        return np.power(10.0, db / 20.0)

    return _shape(samples, response)


def _shape(samples: Samples, response: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Samples:
    # zero-phase: truth beside the sound keeps its time; 50 ms of zeros keep the ends from wrapping round
    size = fft.next_fast_len(len(samples) + RATE // 20, real=True)
    hz = np.linspace(0.0, RATE / 2, size // 2 + 1, dtype=np.float32)
    return fft.irfft(fft.rfft(samples, size) * response(hz), size)[: len(samples)].astype(np.float32)


def mu_law(samples: Samples, rng: Rng) -> Samples:
    """Eight-bit (or six-bit) logarithmic coding, as telephones do (ITU-T G.711)."""
    levels = float(rng.choice([127, 127, 31]))
    peak = max(float(np.abs(samples).max()), 1e-4)
    squeezed = np.sign(samples) * np.log1p(255.0 * np.abs(samples) / peak) / np.log(256.0)
    coded = np.round(squeezed * levels) / levels
    return (np.sign(coded) * np.expm1(np.abs(coded) * np.log(256.0)) / 255.0 * peak).astype(np.float32)


def dropouts(samples: Samples, rng: Rng) -> Samples:
    """One to three packets of 20 ms lost."""
    out = samples.copy()
    for start in rng.integers(0, max(len(samples) - 320, 1), rng.integers(1, 4)):
        out[start : start + 320] = 0.0
    return out


CHAIN: tuple[tuple[float, Callable[[Samples, Rng], Samples]], ...] = (
    (0.5, tilt),
    (0.35, room),
    (0.6, add_noise),
    (0.25, band_limit),
    (0.12, mu_law),
    (0.05, dropouts),
    (1.0, gain),
)


def spoil(samples: Samples, rng: Rng, clean_share: float = 0.2) -> Samples:
    """A random chain of the above; `clean_share` of the crops stay clean but for their level."""
    if rng.random() < clean_share:
        return gain(samples, rng)
    for chance, effect in CHAIN:
        if rng.random() < chance:
            samples = effect(samples, rng)
    return samples.astype(np.float32)


def no_speech(n: int, rng: Rng) -> Samples:
    """`n` samples in which nobody speaks: digital silence, noise from -75 to -25 dBFS, music, clicks on a table."""
    kind = rng.choice(["silence", "noise", "noise", "music", "clicks"])
    loud = decibels(rng.uniform(-75.0, -25.0))
    if kind == "silence":
        return np.zeros(n, np.float32)
    if kind == "noise":
        slow = np.repeat(rng.uniform(0.3, 1.0, n // RATE * 4 + 5), RATE // 4)[:n]
        swell = signal.convolve(slow, np.hanning(4001) / 2000.0, "same") if rng.random() < 0.4 else 1.0
        return (coloured_noise(n, rng) * swell * loud).astype(np.float32)
    if kind == "music":
        return np.clip(music(n, rng) * loud, -1.0, 1.0).astype(np.float32)
    out = coloured_noise(n, rng) * decibels(-70.0)
    for start in rng.integers(0, n, max(1, n // RATE * 2)):
        click = rng.standard_normal(min(800, n - start)) * np.exp(
            -np.arange(min(800, n - start)) / rng.uniform(20, 200)
        )
        out[start : start + len(click)] += click * loud * 4
    return np.clip(out, -1.0, 1.0).astype(np.float32)
