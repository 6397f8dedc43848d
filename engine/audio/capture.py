"""From a sound source that may stall, burst, run fast or vanish to 16 kHz stream time that never lies.

The timeline follows the clock on the wall: what is missing is filled with silence, what comes twice (a stalled sound
server delivers its backlog at once, after the silence that stood in for it) is dropped down to the newest. So frames go
on whatever the microphone does.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.audio.resample import Resampler
from engine.clock import StreamClock
from engine.stats import Ledger

Samples = NDArray[np.float32]
RATE = 16000
PATIENCE_S = 0.12  # sound this overdue is replaced by silence
SURPLUS_S = 0.03  # sound this far ahead of the clock is a backlog
HOLE_S, HOLE_WINDOW_S = 0.02, 0.5  # sound that for so long never came less than this late has a hole somewhere
SLEPT_S = 5.0  # a gap this long means that the computer slept: stream time does not pass in it


@dataclass(frozen=True)
class Batch:
    """What a source has for us: `samples` mono float32 at its own rate; the newest was captured at `newest_at_s`;
    `lost` before them.
    """

    samples: Samples
    newest_at_s: float
    lost: int = 0


@dataclass(frozen=True)
class Heard:
    """Mono sound at the device's own `rate`, silence for holes included, that begins at 16 kHz stream sample
    `position`.
    """

    samples: Samples
    rate: int
    position: float


class Source(Protocol):
    """Somewhere sound comes from: a microphone or a file played in real time."""

    name: str
    rate: int

    def read(self, now_s: float) -> Batch:
        """Everything captured since the last call. Inference thread."""

    def age_s(self, now_s: float) -> float:
        """Seconds since the source last delivered. Any thread."""

    def close(self) -> None:
        """Lets the device go. The thread that opened it."""


class Capture:
    """The inference thread's end of the microphone. `attach`, `muted` and the meters may be used from any thread,
    `pull` from one only.
    """

    def __init__(self, clock: StreamClock, ledger: Ledger) -> None:
        self.clock, self._ledger = clock, ledger
        self.muted = False
        self.level = 0.0  # peak of the last moment, full scale = 1
        self.clipped_at_s = -1e9
        self.heard_at_s = -1e9  # when a sample that was not exactly zero last came
        self._offered: Source | None = None
        self._source: Source | None = None
        self._resampler = Resampler(RATE, RATE)
        self._base = 0  # stream position at which the present resampler began
        self._fed = 0  # samples it was fed since, at its own rate
        self.position = 0  # 16 kHz samples handed out so far
        self._joined = False  # sound is flowing, silence is not being filled in
        self._least_late_s, self._window_began_s = float("inf"), 0.0
        self.heard: list[Heard] = []  # what went in during the last `pull`, for monitor and recording

    def attach(self, source: Source | None) -> None:
        """From the next `pull` on, listens to `source`; None is silence. Any thread."""
        self._offered = source

    @property
    def entered(self) -> float:
        """Stream position up to which sound (or silence) has gone in, in 16 kHz samples."""
        return self._base + self._fed * RATE / self._resampler.in_rate

    def pull(self, now_s: float) -> Samples:
        """New 16 kHz mono samples, continuous with those before; often none."""
        self.heard = []
        self._switch()
        batch = self._source.read(now_s) if self._source else None
        if batch is None or not len(batch.samples):
            return self._fill_if_overdue(now_s)
        if batch.lost:
            self._ledger.overrun_frames += batch.lost
        self._measure(batch.samples, now_s)
        fresh = self._without_backlog(batch)
        out = [self._feed(self._hole(len(fresh), batch.newest_at_s)), self._feed(fresh)]
        if len(fresh):
            self._joined = True
            self.clock.observe(self.entered, batch.newest_at_s)
        return np.concatenate(out)

    def _switch(self) -> None:
        source = self._offered
        if source is self._source:
            return
        self._source = source
        if source and source.rate != self._resampler.in_rate:
            self._resampler = Resampler(source.rate, RATE)
            self._base, self._fed = self.position, 0
        self._joined = False

    def _feed(self, samples: Samples) -> Samples:
        if self.muted:
            samples = np.zeros_like(samples)
        if len(samples):
            self.heard.append(Heard(samples, self._resampler.in_rate, self.entered))
        self._fed += len(samples)
        out = self._resampler.push(samples)
        self.position += len(out)
        return out

    def _fill_if_overdue(self, now_s: float) -> Samples:
        overdue_s = self.clock.position_at(now_s) / RATE - self.entered / RATE
        if overdue_s > SLEPT_S:
            self.clock.anchor(self.entered, now_s)
            self._ledger.slept_s += overdue_s
            return np.zeros(0, np.float32)
        # Once silence stands in, it goes on without patience, or every frame would wait for it.
        if overdue_s <= (PATIENCE_S if self._joined else 0.0):
            return np.zeros(0, np.float32)
        self._joined = False
        self.level *= 0.8
        return self._feed(self._silence(overdue_s))

    def _silence(self, seconds: float) -> Samples:
        count = max(0, int(seconds * self._resampler.in_rate))
        self._ledger.silence_filled_s += count / self._resampler.in_rate
        return np.zeros(count, np.float32)

    def _without_backlog(self, batch: Batch) -> Samples:
        """The batch less what the timeline has already been given silence for, or what is ahead of the clock."""
        rate = self._resampler.in_rate
        ahead_s = self.entered / RATE + len(batch.samples) / rate - self.clock.position_at(batch.newest_at_s) / RATE
        if ahead_s <= (SURPLUS_S if self._joined else 0.0):
            return batch.samples
        cut = min(len(batch.samples), int(ahead_s * rate) + 1)
        self._ledger.backlog_dropped_s += cut / rate
        return batch.samples[cut:]

    def _hole(self, count: int, at_s: float) -> Samples:
        """Silence for samples that were lost without a word: shown by sound that stays late."""
        if not self._joined or at_s - self._window_began_s > 2 * HOLE_WINDOW_S:
            self._least_late_s, self._window_began_s = float("inf"), at_s
            return self._silence(0)
        late_s = at_s - self.clock.time_of(self.entered) - count / self._resampler.in_rate
        self._least_late_s = min(self._least_late_s, late_s)
        if at_s - self._window_began_s < HOLE_WINDOW_S:
            return self._silence(0)
        least_s = self._least_late_s
        self._least_late_s, self._window_began_s = float("inf"), at_s
        return self._silence(least_s if least_s > HOLE_S else 0.0)

    def _measure(self, samples: Samples, now_s: float) -> None:
        peak = float(np.abs(samples).max())
        self.level = max(peak, 0.8 * self.level)
        if peak >= 0.999:
            self.clipped_at_s = now_s
        if peak > 0.0:
            self.heard_at_s = now_s
