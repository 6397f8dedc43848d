"""What happened, in bounded memory: percentiles, counters, a list of events, and the memory of the first and the last
minute.
"""

import math
import threading
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import psutil
from numpy.typing import NDArray

LOWEST_MS, BINS, GROWTH = 0.01, 1000, 1.016  # bins 1.6% wide from 0.01 ms to 78 s: a percentile is right within 0.8%
EVENTS_KEPT = 200


class Histogram:
    """Percentiles of milliseconds over any length of time. One thread adds; any thread may read (a moment behind)."""

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] = np.zeros(BINS + 1, np.int64)
        self._sum_ms = 0.0
        self.count = 0
        self.worst_ms = 0.0

    def add(self, ms: float) -> None:
        """Counts one duration; what is negative or not a number counts as nothing."""
        ms = ms if ms > 0 else 0.0
        at = 0 if ms < LOWEST_MS else min(BINS, 1 + int(math.log(ms / LOWEST_MS) / math.log(GROWTH)))
        self._counts[at] += 1
        self._sum_ms += ms
        self.count += 1
        self.worst_ms = max(self.worst_ms, ms)

    def quantile(self, share: float) -> float:
        """The value below which `share` (0..1) of all durations lie, in ms; 0 when there are none."""
        counts = self._counts.copy()
        total = int(counts.sum())
        if not total:
            return 0.0
        at = int(np.searchsorted(np.cumsum(counts), share * total))
        return 0.0 if at == 0 else min(self.worst_ms, LOWEST_MS * GROWTH ** (at - 0.5))

    def summary(self) -> dict[str, float]:
        """`p50`, `p95`, `p99`, `mean`, `max` in ms, rounded for people."""
        mean = self._sum_ms / self.count if self.count else 0.0
        values = {
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
            "mean": mean,
            "max": self.worst_ms,
        }
        return {name: round(value, 2) for name, value in values.items()}


class RateMeter:
    """Events a second over the last `window` of them. One thread ticks; any thread may read."""

    def __init__(self, window: int = 90) -> None:
        self._times: deque[float] = deque(maxlen=window)

    def tick(self, now_s: float) -> None:
        self._times.append(now_s)

    def per_second(self, now_s: float) -> float:
        """Rate up to `now_s`; falls towards 0 when nothing happens any more."""
        times = list(self._times)
        if len(times) < 2:
            return 0.0
        spacing = (times[-1] - times[0]) / (len(times) - 1)
        overdue = max(0.0, now_s - times[-1] - 2 * spacing)
        return (len(times) - 1) / max(1e-9, times[-1] - times[0] + overdue)


@dataclass(frozen=True)
class Event:
    """Something a person should know: seconds since the start, a kind such as `microphone lost`, a sentence."""

    at_s: float
    kind: str
    text: str


class EventLog:
    """The newest `EVENTS_KEPT` events and how many there were of each kind. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._counts: dict[str, int] = {}

    def add(self, at_s: float, kind: str, text: str) -> None:
        with self._lock:
            self._events.append(Event(round(at_s, 3), kind, text))
            self._counts[kind] = self._counts.get(kind, 0) + 1

    def newest(self, count: int = EVENTS_KEPT) -> tuple[Event, ...]:
        """The newest `count` events, oldest first."""
        with self._lock:
            return tuple(self._events)[-count:]

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


class Memory:
    """Resident memory and processor share, sampled once a second by one thread."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=60)
        self._busy = 0.0
        self._looks = 0
        self.rss_mb = 0.0
        self.peak_mb = 0.0
        self.cpu_percent = 0.0

    def sample(self) -> None:
        """Looks once; call about every second."""
        self.rss_mb = self._process.memory_info().rss / 2**20
        self.cpu_percent = self._process.cpu_percent()
        self._busy += self.cpu_percent
        self._looks += 1
        self.peak_mb = max(self.peak_mb, self.rss_mb)
        if len(self._first) < 60:
            self._first.append(self.rss_mb)
        self._last.append(self.rss_mb)

    def mean_cpu_percent(self) -> float:
        """Processor share of this process since the start; 100 is one core."""
        return round(self._busy / max(1, self._looks), 1)

    def summary(self) -> dict[str, float]:
        """Mean of the first and of the last minute, and the most ever seen, in MB."""
        first, last = list(self._first), list(self._last)
        means = {
            "first_minute": sum(first) / max(1, len(first)),
            "last_minute": sum(last) / max(1, len(last)),
            "peak": self.peak_mb,
        }
        return {name: round(value, 1) for name, value in means.items()}


@dataclass
class Ledger:
    """Everything the workers of one session count. Each field has one writing thread; any thread may read.

    inference thread: `intake` (reading and resampling), `encode` (all hops of a turn), `decode`, `compose`, `drawn`,
    `dropped` (frames passed over because a newer one was due), `silence_filled_s`, `backlog_dropped_s`,
    `slept_s` (the whole computer stood still), `overrun_frames` (at the device's rate).
    camera thread: `latency` (newest sample captured -> frame handed over), `send`, `frames`, `late` (at its tick the
    frame that belongs to it was not there, and an older one was shown), and when the first and last were sent.
    """

    encode: Histogram = field(default_factory=Histogram)
    decode: Histogram = field(default_factory=Histogram)
    compose: Histogram = field(default_factory=Histogram)
    intake: Histogram = field(default_factory=Histogram)
    send: Histogram = field(default_factory=Histogram)
    latency: Histogram = field(default_factory=Histogram)
    camera_rate: RateMeter = field(default_factory=RateMeter)
    events: EventLog = field(default_factory=EventLog)
    memory: Memory = field(default_factory=Memory)
    drawn: int = 0
    dropped: int = 0
    frames: int = 0
    late: int = 0
    skipped: int = 0
    first_frame_s: float = 0.0
    last_frame_s: float = 0.0
    silence_filled_s: float = 0.0
    backlog_dropped_s: float = 0.0
    slept_s: float = 0.0
    overrun_frames: int = 0

    def stages(self) -> dict[str, dict[str, float]]:
        """Percentiles of each stage in ms."""
        parts = {
            "intake": self.intake,
            "encode": self.encode,
            "decode": self.decode,
            "compose": self.compose,
            "camera": self.send,
        }
        return {name: histogram.summary() for name, histogram in parts.items()}

    def frame_rate(self) -> float:
        """Frames a second from the first to the last frame that the camera was given."""
        spent_s = self.last_frame_s - self.first_frame_s
        return (self.frames - 1) / spent_s if self.frames > 1 and spent_s > 0 else 0.0
