"""A made-up voice for the tiny pack's reader."""

import numpy as np

RATE = 16_000


def voice(seconds: float, bright: bool, seed: int = 0) -> np.ndarray:
    """Syllables of a dull tone, or of a hiss: anger and joy to the tiny reader."""
    t = np.arange(int(seconds * RATE)) / RATE
    rng = np.random.default_rng(seed)
    sound = 0.15 * rng.standard_normal(len(t)) if bright else 0.3 * np.sin(2 * np.pi * 150 * t)
    return (sound * (0.55 + 0.45 * np.sign(np.sin(2 * np.pi * 4 * t)))).astype(np.float32)
