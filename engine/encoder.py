"""Sound becomes contexts: the audio encoder, hop by hop, and a ring of what it said."""

import numpy as np
from numpy.typing import NDArray

from engine.avatar import Avatar
from engine.backends.base import Graph, State
from engine.manifest import HOP_SAMPLES
from engine.prosody import SILENT, Prosody, ProsodyFollower

Array = NDArray[np.float32]
RING_HOPS = 6_000  # one minute of contexts


class AudioEncoder:
    """Runs the encoder graph on every whole hop and keeps the last minute of contexts.

    One thread pushes; it never skips.
    """

    def __init__(self, avatar: Avatar, graph: Graph) -> None:
        audio = avatar.manifest.audio
        self._graph, self._window = graph, audio.window_hops
        self.lookahead_hops = audio.lookahead_hops
        # Every context is written twice, one ring length apart, so that any window is one slice.
        self._length = RING_HOPS + self._window
        self._ring = np.zeros((2 * self._length, audio.context_size), np.float32)
        self._sound = np.zeros((self._length, HOP_SAMPLES), np.float32)
        self._rest = np.zeros(0, np.float32)
        self._chunk = np.zeros((1, HOP_SAMPLES), np.float32)
        self._follower, self._prosody = ProsodyFollower(), [SILENT] * self._length
        self.hops = 0
        self._state: State = graph.initial()

    def push(self, samples: Array) -> int:
        """Takes float32 mono at 16 kHz, any number of samples, and encodes every hop that is now whole.

        Returns hops encoded.
        """
        if samples.dtype != np.float32 or samples.ndim != 1:
            raise ValueError(f"samples must be one-dimensional float32, found {samples.dtype} {samples.shape}")
        pending = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        count = len(pending) // HOP_SAMPLES
        for hop in range(count):
            self._chunk[0] = pending[hop * HOP_SAMPLES : (hop + 1) * HOP_SAMPLES]
            self._state, outputs = self._graph.step(self._state, {"samples": self._chunk})
            place = self.hops % self._length
            self._sound[place] = self._chunk[0]
            self._ring[place] = self._ring[place + self._length] = outputs["context"][0]
            self._prosody[place] = self._follower.push(self._chunk[0])
            self.hops += 1
        self._rest = pending[count * HOP_SAMPLES :].copy()
        return count

    @property
    def oldest_newest_hop(self) -> int:
        """The smallest `newest_hop` whose window is still in the ring."""
        return max(-1, self.hops - self._length + self._window - 1)

    def window(self, newest_hop: int, hops: int = 0) -> Array:
        """Contexts [1, W, C] that end with hop `newest_hop`, a copy; hops before 0 are zeros.

        The hop must have been encoded. `hops` asks for another number of them than the decoder's W.
        """
        hops = hops or self._window
        if not self.oldest_newest_hop <= newest_hop < self.hops:
            raise ValueError(
                f"hop {newest_hop} is not among the last contexts ({self.oldest_newest_hop} .. {self.hops - 1})"
            )
        first = newest_hop + 1 - hops
        window = np.zeros((1, hops, self._ring.shape[1]), np.float32)
        kept = newest_hop + 1 - max(first, 0)
        if kept > 0:
            start = max(first, 0) % self._length
            window[0, hops - kept :] = self._ring[start : start + kept]
        return window

    def sound(self, newest_hop: int, hops: int) -> Array:
        """Samples [1, 160 hops] that end with hop `newest_hop`; those hops must still be in the ring."""
        places = np.arange(newest_hop + 1 - hops, newest_hop + 1) % self._length
        return self._sound[places].reshape(1, -1)

    def prosody(self, hop: int) -> Prosody:
        """How the voice moved at a hop that is still in the ring; before the first it was silent."""
        return self._prosody[hop % self._length] if hop >= 0 else SILENT

    def reset(self) -> None:
        """Forgets all sound, as at the start."""
        self._ring.fill(0)
        self._rest = np.zeros(0, np.float32)
        self._follower, self._prosody = ProsodyFollower(), [SILENT] * self._length
        self.hops = 0
        self._state = self._graph.initial()
