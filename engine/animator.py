"""The engine without threads and devices: samples and controls in, frames out, in stream time."""

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.avatar import Avatar, Person
from engine.backends import Loaded, load_graphs
from engine.controls import Controls
from engine.decoder import FrameDecoder, Picture
from engine.encoder import AudioEncoder
from engine.idle import Motion, move
from engine.manifest import FPS, HOP_SAMPLES, RATE
from engine.voice_mood import VoiceListener, blended, load_reader

SAMPLES_PER_FRAME = Fraction(RATE, FPS)
_FADE_FRAMES = 9  # a change of person takes 0.3 s


def newest_hop(frame: int, lookahead_hops: int) -> int:
    """The last hop whose context frame `frame` may use: floor(k * 16000 / 30 / 160) - 1 + L."""
    return int(frame * SAMPLES_PER_FRAME / HOP_SAMPLES) - 1 + lookahead_hops


@dataclass(frozen=True)
class Frame:
    """One picture of the avatar. `rgba [S, S, 4]` uint8 is premultiplied; nobody may write to it.

    `index` k and `time` k/30 s are in stream time; `newest_sample` is one past the last sample that can have shaped
    it; `expression [60]` are the face's weights, for software that draws for itself.
    """

    rgba: NDArray[np.uint8]
    index: int
    newest_sample: int
    expression: NDArray[np.float32] | None

    @property
    def time(self) -> Fraction:
        """Stream time in seconds."""
        return Fraction(self.index, FPS)

    def straight(self) -> NDArray[np.uint8]:
        """The picture with straight alpha, [S, S, 4] uint8: a copy."""
        return straighten(self.rgba)


def straighten(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Premultiplied -> straight alpha, [H, W, 4] uint8; empty pixels become black."""
    alpha = rgba[..., 3]
    picture = rgba.copy()
    soft = (alpha > 0) & (alpha < 255)
    part = rgba[soft].astype(np.uint16)
    picture[soft, :3] = np.minimum((part[:, :3] * 255 + part[:, 3:] // 2) // part[:, 3:], 255)
    picture[alpha == 0] = 0
    return picture


class Animator:
    """Samples in, frames out. Pure in stream time: the same samples and controls give the same frames, however they
    are cut up.

    The encoder hears every hop; frames may be skipped. All methods belong to one thread.
    Raises `AvatarError` or `BackendError` at construction; `backend` is `auto` or a name in `engine.backends.BACKENDS`;
    `graphs` are loaded ones to use instead, such as places in a batch (engine/backends/lanes.py).
    """

    def __init__(
        self,
        avatar: Avatar,
        person: str | None = None,
        backend: str = "auto",
        *,
        threads: int = 0,
        seed: int = 0,
        graphs: Loaded | None = None,
    ) -> None:
        self.avatar, self._seed = avatar, seed
        first = avatar.person(person)
        self._people = {first.name: first}
        models = [avatar.graph("audio_encoder"), avatar.graph("frame_decoder")]
        self._loaded = graphs or load_graphs(models, backend, threads)
        self._encoder = AudioEncoder(avatar, self._loaded.graphs[0])
        self._decoder = FrameDecoder(avatar, self._loaded.graphs[1], first)
        reader = load_reader(avatar)
        self._listener = VoiceListener(avatar, reader, self._encoder) if reader is not None else None
        self._next = 0
        self._fading: tuple[NDArray[np.uint8], int] | None = None
        self._last: NDArray[np.uint8] | None = None
        self.skipped = 0

    @property
    def backend(self) -> str:
        """What runs the graphs, and why not what `auto` would have liked better."""
        return str(self._loaded)

    @property
    def person(self) -> str:
        return self._decoder.person.name

    @property
    def next_index(self) -> int:
        """Index of the frame that `next_frame` draws."""
        return self._next

    def push(self, samples: NDArray[np.float32]) -> None:
        """Hears float32 mono samples at 16 kHz, in -1..1, any number of them."""
        self._encoder.push(samples)
        if self._listener is not None:
            self._listener.follow()

    def frames_due(self) -> int:
        """How many frames could be drawn now: those whose contexts have all been heard."""
        spare = self._encoder.hops - 1 - newest_hop(self._next, self.avatar.lookahead_hops)
        if spare < 0:
            return 0
        # The first frame that is not due is the first whose newest hop is >= hops.
        beyond = -(-(self._encoder.hops + 1 - self.avatar.lookahead_hops) * HOP_SAMPLES // SAMPLES_PER_FRAME)
        return max(0, int(beyond) - self._next)

    def skip_to_newest(self) -> int:
        """Leaves out all due frames but the newest, which `next_frame` then draws. Returns how many were left out."""
        return self._skip(max(0, self.frames_due() - 1))

    def _skip(self, count: int) -> int:
        self._next += count
        self.skipped += count
        return count

    def next_frame(self, controls: Controls) -> Frame:
        """Draws the oldest due frame.

        Raises `ValueError` if none is due; frames over a minute late are skipped and counted.
        """
        if self.frames_due() == 0:
            raise ValueError(f"frame {self._next} is not due yet: push more samples (see frames_due)")
        self._skip_forgotten()
        hop = newest_hop(self._next, self.avatar.lookahead_hops)
        person = controls.person
        if self._listener is not None:
            controls = blended(controls, self._listener.mood(hop))
            person = (controls.person_from_voice and self._listener.person) or person
        self._show(person)
        voice = self._encoder.prosody(hop)
        return self.next_frame_moving(move(controls, self._next / FPS, self._seed, voice))

    def next_frame_moving(self, motion: Motion) -> Frame:
        """Like `next_frame`, but with every motion given, as from an animator's curves: nothing is added."""
        self._skip_forgotten()
        hop = newest_hop(self._next, self.avatar.lookahead_hops)
        picture = self._decoder.draw(self._encoder.window(hop), motion)
        rgba = self._faded(picture)
        frame = Frame(rgba, self._next, (hop + 1) * HOP_SAMPLES, picture.expression)
        self._next += 1
        self._last = rgba
        return frame

    def _skip_forgotten(self) -> None:
        while newest_hop(self._next, self.avatar.lookahead_hops) < self._encoder.oldest_newest_hop:
            self._skip(1)

    def load_person(self, name: str) -> Person:
        """Reads a person ahead of time, so that switching to them costs nothing. Raises `AvatarError`."""
        if name not in self._people:
            self._people[name] = self.avatar.person(name)
        return self._people[name]

    def _show(self, name: str | None) -> None:
        if name is None or name == self._decoder.person.name:
            return
        self._decoder.show(self.load_person(name))
        if self._last is not None:
            self._fading = (self._last, self._next)

    def _faded(self, picture: Picture) -> NDArray[np.uint8]:
        """While a change of person is under way: the old person's last picture gives way to the new one."""
        if self._fading is None:
            return picture.rgba
        old, since = self._fading
        share = (self._next - since + 1) / _FADE_FRAMES
        if share >= 1:
            self._fading = None
            return picture.rgba
        return np.asarray(cv2.addWeighted(picture.rgba, share, old, 1 - share, 0), np.uint8)

    def reset(self) -> None:
        """Back to stream time 0, as if new."""
        self._encoder.reset()
        if self._listener is not None:
            self._listener.reset()
        self._next, self.skipped, self._fading, self._last = 0, 0, None, None

    def close(self) -> None:
        """Frees the graphs."""
        for graph in self._loaded.graphs:
            graph.close()
        if self._listener is not None:
            self._listener.close()
