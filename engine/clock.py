"""Stream time beside the computer's clock: when was sample n there, and which sample should be there now?

Sound arrives late by a varying amount and never early, so the truth is the lower edge of all arrival times. The clock
follows that edge: an earlier arrival moves it at once, a later one only at `LEAK` (more than twice the 200 ppm by which
sound cards are off). Between arrivals, and without any microphone, it goes on at the nominal rate of the computer's own
clock, so the camera always has a time base.
"""

LEAK = 500e-6


class StreamClock:
    """Maps stream positions (samples at `rate`) to seconds of `time.perf_counter`.

    The inference thread calls `anchor` and `observe`; any thread may call `time_of` and `position_at`: they read one
    float.
    """

    def __init__(self, rate: int = 16000) -> None:
        self.rate = rate
        self._zero_s = 0.0
        self._seen_s = 0.0

    def anchor(self, position: float, at_s: float) -> None:
        """Declares that `position` is there at `at_s`: at the start, and after the computer slept."""
        self._zero_s = at_s - position / self.rate
        self._seen_s = at_s

    def observe(self, position: float, at_s: float) -> None:
        """Sample `position` arrived at `at_s`."""
        late_s = at_s - position / self.rate - self._zero_s
        allowed_s = LEAK * max(0.0, at_s - self._seen_s)
        self._zero_s += min(late_s, allowed_s)
        self._seen_s = max(self._seen_s, at_s)

    def time_of(self, position: float) -> float:
        """Seconds at which stream sample `position` is (or was, or will be) there."""
        return self._zero_s + position / self.rate

    def position_at(self, at_s: float) -> float:
        """The stream sample that should be there at `at_s`."""
        return (at_s - self._zero_s) * self.rate
