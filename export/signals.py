"""Inputs for measuring: a made-up voice, and conditions all over their ranges; the same for every back end."""

import numpy as np
from numpy.typing import NDArray

from engine.avatar import Avatar
from engine.manifest import HOP_SAMPLES

Array = NDArray[np.float32]


def speech_like(hops: int, seed: int = 0) -> Array:
    """Samples [hops, 160] float32: a voice-like buzz whose loudness and pitch wander, with pauses; the same for every
    back end.
    """
    rng = np.random.default_rng(seed)
    n = hops * HOP_SAMPLES
    t = np.arange(n) / 16_000
    pitch_hz = 140 + 40 * np.sin(2 * np.pi * 0.4 * t)
    buzz = np.sign(np.sin(2 * np.pi * np.cumsum(pitch_hz) / 16_000)) * 0.2 + rng.normal(0, 0.05, n)
    loud = np.clip(np.sin(2 * np.pi * 2.7 * t) + 0.4 * np.sin(2 * np.pi * 0.31 * t), 0, 1)
    return np.asarray(buzz * loud, np.float32).reshape(hops, HOP_SAMPLES)


def random_inputs(avatar: Avatar, person: str, seed: int) -> dict[str, Array]:
    """Inputs of the frame decoder: random contexts, every condition somewhere in its declared range, the person's
    tensors.
    """
    _, spec = avatar.graph("frame_decoder")
    rng = np.random.default_rng(seed)
    inputs = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in spec.inputs_of("context").items()}
    for name, shape in spec.inputs_of("condition").items():
        condition = avatar.manifest.conditions[name]
        low, high = (np.broadcast_to(np.asarray(bound, np.float32), shape) for bound in (condition.min, condition.max))
        inputs[name] = rng.uniform(low, high).astype(np.float32)
    return inputs | dict(avatar.person(person).tensors)
