"""One writer, one reader, no lock: the bridge from the sound card's thread to ours.

The writer is the PortAudio callback, so writing only copies and counts. When the reader falls more than the capacity
behind, the OLDEST frames are overwritten: what is kept is the newest sound, and the reader is told how many frames are
gone, so that it can put silence where they were. Stream time is counted in frames of the device's own rate, from the
first frame ever written.

    reserved    frames the writer has begun to write
    written     frames that are whole

The writer raises `reserved` before it copies and `written` after. The reader looks at `reserved` again once it has
copied, and throws away what the writer may have overwritten meanwhile.
"""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Stamp:
    """`frames` had been written when the writer's clock read `at_s` (seconds of `time.perf_counter`)."""

    frames: int
    at_s: float


class Ring:
    """`[capacity_frames, channels]` float32, preallocated. The writer calls `write`; the reader calls all the rest."""

    def __init__(self, capacity_frames: int, channels: int = 1) -> None:
        if capacity_frames < 1 or channels < 1:
            raise ValueError(f"a ring needs at least one frame and one channel, found {capacity_frames} and {channels}")
        self._slots = np.zeros((capacity_frames, channels), np.float32)
        self._reserved = 0
        self._written = 0
        self.stamp_s = 0.0  # when `write` was last called, in seconds of `time.perf_counter`
        self._read = 0
        self.overrun_frames = 0
        self.callbacks = 0

    @property
    def capacity_frames(self) -> int:
        return len(self._slots)

    @property
    def written_frames(self) -> int:
        """Frames written since the start. Any thread."""
        return self._written

    def write(self, block: Samples) -> None:
        """Appends `[n, channels]`; `n` must not exceed the capacity. Writer thread only: no lock, no allocation of
        sound, no logging.
        """
        count, start, capacity = len(block), self._written, len(self._slots)
        self._reserved = start + count
        at = start % capacity
        first = min(count, capacity - at)
        self._slots[at : at + first] = block[:first]
        if first < count:
            self._slots[: count - first] = block[first:]
        self.stamp_s = time.perf_counter()
        self.callbacks += 1
        self._written = start + count

    def stamp(self) -> Stamp:
        """When the newest frame was written. Reader thread."""
        while True:
            written, at_s = self._written, self.stamp_s
            if written == self._reserved and written == self._written:
                return Stamp(written, at_s)

    def read(self, until_frames: int | None = None) -> tuple[int, Samples]:
        """`(lost, [n, channels])`: every frame not yet read (up to `until_frames`), after `lost` frames that were
        overwritten.
        """
        end = self._written if until_frames is None else min(until_frames, self._written)
        begin = max(self._read, min(end, self._reserved - len(self._slots)))
        capacity = len(self._slots)
        at, count = begin % capacity, end - begin
        first = min(count, capacity - at)
        block = np.concatenate([self._slots[at : at + first], self._slots[: count - first]])
        torn = min(count, max(0, self._reserved - capacity - begin))
        lost = begin + torn - self._read
        self._read = end
        self.overrun_frames += lost
        return lost, block[torn:]

    def waiting_frames(self) -> int:
        """Frames written and not yet read. Any thread."""
        return self._written - self._read

    def read_into(self, out: Samples) -> int:
        """Fills `[n, channels]` with the next frames and returns how many there were; the rest of `out` becomes
        silence. Reader thread.

        For a reader that is itself a sound card's callback: nothing is allocated. The writer must never be a whole ring
        ahead.
        """
        capacity = len(self._slots)
        count = min(len(out), self._written - self._read)
        at = self._read % capacity
        first = min(count, capacity - at)
        out[:first] = self._slots[at : at + first]
        if first < count:
            out[first:count] = self._slots[: count - first]
        out[count:] = 0.0
        self._read += count
        self.callbacks += 1
        return count

    def skip_to_newest(self) -> int:
        """Forgets what is waiting; returns how many frames that were. Reader thread."""
        skipped, self._read = self._written - self._read, self._written
        return skipped
