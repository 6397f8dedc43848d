"""When the camera gets which frame: a steady grid in stream time, a little behind the moment frames become ready."""

from fractions import Fraction
from math import ceil, floor

from engine.clock import StreamClock

RATE, FRAME_RATE = 16000, 30
GRACE_S = 0.008  # how long a tick waits for the frame that belongs to it
ON_TIME = 0.97  # the share of frames that should be ready at their tick; most of the rest come within the grace
STEP_S = 0.001
MARGIN_S, LEAST_S, MOST_S = 0.03, 0.003, 0.08


class Pacer:
    """Ticks at `fps` in stream time. Tick j shows frame `floor(j * 30 / fps)` and is due `margin_s` after that frame's
    last sample.

    The margin follows the time that drawing takes: it is moved up by 0.97 ms for every frame that was not ready and down
    by 0.03 ms for every one that was, and so settles where 97 in a hundred are. It is bounded, so an overloaded machine
    drops frames and stays prompt. One thread (the camera's).
    """

    def __init__(self, clock: StreamClock, lookahead_samples: int, fps: Fraction) -> None:
        if not 1 <= fps <= FRAME_RATE:
            raise ValueError(
                f"frames are drawn at {FRAME_RATE} a second; the camera can take 1 to {FRAME_RATE}, not {float(fps):g}"
            )
        self._clock, self._fps = clock, fps
        self.lookahead_samples = lookahead_samples
        self.margin_s = MARGIN_S
        self.tick: int | None = None
        self.skipped = 0

    def frame_of(self, tick: int) -> int:
        """The frame that belongs to a tick."""
        return floor(tick * FRAME_RATE / self._fps)

    def wants(self, frame: int) -> bool:
        """Whether any tick shows this frame. Any thread."""
        return self.frame_of(ceil(frame * self._fps / FRAME_RATE)) == frame

    def ready_s(self, tick: int) -> float:
        """When the last sample of the tick's frame is there, in seconds of `time.perf_counter`."""
        return self._clock.time_of(float(tick * RATE / self._fps) + self.lookahead_samples)

    def due_s(self, now_s: float) -> float:
        """When the present tick is due; starts the ticks, and passes over those that are more than one period in the
        past.
        """
        period_s = float(1 / self._fps)
        present = Fraction(self._clock.position_at(now_s - self.margin_s) - self.lookahead_samples) * self._fps / RATE
        if self.tick is None:
            self.tick = max(0, ceil(present))
        elif now_s - self.ready_s(self.tick) - self.margin_s > period_s:
            self.skipped += max(0, floor(present) - self.tick)
            self.tick = max(self.tick, floor(present))
        return self.ready_s(self.tick) + self.margin_s

    def advance(self, frame_ready_s: float | None) -> None:
        """Goes to the next tick; `frame_ready_s` is when the frame shown at this one had been drawn, None if none was
        new.
        """
        assert self.tick is not None, "due_s comes first"
        if frame_ready_s is not None:
            on_time = frame_ready_s <= self.ready_s(self.tick) + self.margin_s
            self.margin_s += -(1 - ON_TIME) * STEP_S if on_time else ON_TIME * STEP_S
            self.margin_s = min(MOST_S, max(LEAST_S, self.margin_s))
        self.tick += 1
