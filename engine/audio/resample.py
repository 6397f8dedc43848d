"""Streaming change of sampling rate with a millisecond of delay, for the live path.

libsoxr's stream delivers its output in bursts of 33 ms at 48 kHz (500 samples at a time, measured at quality MQ and
HQ), and 12-14 ms late in its variable-rate mode; files go through it, but a live face has 45 ms for everything. A
windowed sinc evaluated at the output's own instants (polyphase, exact integer phases, so no drift in hours) needs only
its own half length: 1 ms at 48 kHz. Source: J. O. Smith, Digital Audio Resampling,
https://ccrma.stanford.edu/~jos/resample/; Kaiser window for 70 dB.
"""

from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
STOP_DB = 70.0
PASS_EDGE, STOP_EDGE = 0.875, 1.125  # of the lower Nyquist frequency: 7 kHz passes, what folds back stays above 7 kHz


class Resampler:
    """Mono float32 from `in_rate` to `out_rate`; output sample m is the sound at time `m / out_rate`. One thread."""

    def __init__(self, in_rate: int, out_rate: int) -> None:
        if in_rate < 1 or out_rate < 1:
            raise ValueError(f"sampling rates must be positive whole numbers, found {in_rate} and {out_rate}")
        common = gcd(in_rate, out_rate)
        self.in_rate, self.out_rate = in_rate, out_rate
        self._step, self._phases = in_rate // common, out_rate // common
        self._taps = _bank(in_rate, out_rate, self._phases)
        self._half = self._taps.shape[1] // 2
        self._history = np.zeros(self._half - 1, np.float32)
        self._ahead = 0  # instant of the next output, in 1/phases of an input sample

    @property
    def delay_s(self) -> float:
        """How much later than its input a sample comes out, in seconds."""
        return 0.0 if self._step == self._phases else self._half / self.in_rate

    def push(self, block: Samples) -> Samples:
        """`[n] -> [m]`, every output sample whose filter is now full."""
        if self._step == self._phases:
            return np.asarray(block, np.float32)
        # an output at input instant i looks at known[i : i + 2 half], which are the samples i - half + 1 .. i + half
        known = np.concatenate([self._history, block])
        ready = max(0, len(known) - 2 * self._half + 1)  # instants with all their neighbours
        count = max(0, -((self._ahead - ready * self._phases) // self._step))
        instants = self._ahead + self._step * np.arange(count)
        whole, phase = np.divmod(instants, self._phases)
        if count:
            windows = np.lib.stride_tricks.sliding_window_view(known, 2 * self._half)
            out = np.einsum("nk,nk->n", windows[whole], self._taps[phase])
        else:
            out = np.zeros(0, np.float32)
        self._ahead += self._step * count
        used = min(self._ahead // self._phases, len(known))
        self._history = known[used:].copy()
        self._ahead -= used * self._phases
        return np.asarray(out, np.float32)


def _bank(in_rate: int, out_rate: int, phases: int) -> NDArray[np.float32]:
    """`[phases, 2 half]`: the sinc between input samples `i - half + 1 .. i + half` at `i + phase / phases`."""
    nyquist = 0.5 * min(in_rate, out_rate)
    width = 2 * np.pi * (STOP_EDGE - PASS_EDGE) * nyquist / in_rate
    half = ceil((STOP_DB - 8) / (2.285 * width) / 2)
    beta = 0.1102 * (STOP_DB - 8.7)
    cutoff = 2 * nyquist / in_rate * (PASS_EDGE + STOP_EDGE) / 2
    at = np.arange(2 * half)[None, :] - (half - 1) - np.arange(phases)[:, None] / phases
    window = np.i0(beta * np.sqrt(np.clip(1 - (at / half) ** 2, 0, 1))) / np.i0(beta)
    taps = cutoff * np.sinc(cutoff * at) * window
    even: NDArray[np.float32] = (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)
    return even
