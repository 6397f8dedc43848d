"""A live session on a clock of its own: the engine's real workers, taking turns in simulated time, on one thread.

A worker's step begins at its turn and may `spend` time, which delays what it hands on and its own next turn, but nobody
else's: as on a machine with enough cores. Nothing waits, so ten seconds of session take as long as drawing its frames.
"""

import heapq
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from engine.audio.capture import Capture
from engine.audio.keeper import SoundDoors, SoundKeeper, Wish
from engine.avatar import open_avatar
from engine.camera_feed import CameraFeed
from engine.controls import Controls
from engine.inference import Inference
from engine.outputs.slot import Slot
from engine.pacing import Pacer
from engine.session import LiveFrame, Session

SHORTEST_TURN_S = 0.0002


class Timeline:
    """Simulated seconds: a heap of things to do."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._local_s: float | None = None
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def now(self) -> float:
        """The time as the worker whose turn it is sees it."""
        return self.now_s if self._local_s is None else self._local_s

    def spend(self, seconds: float) -> None:
        """The worker whose turn it is works for so long."""
        assert self._local_s is not None
        self._local_s += seconds

    def at(self, when_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when_s, self._count, do))
        self._count += 1

    def give_turns(self, worker: Any) -> None:
        def turn() -> None:
            self._local_s = self.now_s
            wanted_s = worker.step(self.now_s)
            done_s, self._local_s = self._local_s, None
            self.at(max(wanted_s, done_s, self.now_s + SHORTEST_TURN_S), turn)

        self.at(self.now_s, turn)

    def run_until(self, end_s: float) -> None:
        while self._heap and self._heap[0][0] <= end_s:
            when_s, _, do = heapq.heappop(self._heap)
            self.now_s = max(self.now_s, when_s)
            do()
        self.now_s = end_s


class AtOnce(Executor):
    """Does what is submitted on the spot."""

    def submit(self, do: Callable[..., Any], /, *words: Any, **named: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        try:
            done.set_result(do(*words, **named))
        except Exception as error:
            done.set_exception(error)
        return done


class LateSlot(Slot[LiveFrame]):
    """What is put becomes visible when the putting worker has spent its time."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self._timeline = timeline

    def put(self, thing: LiveFrame) -> None:
        self._timeline.at(self._timeline.now(), lambda: super(LateSlot, self).put(thing))


@dataclass
class Sent:
    """What a camera of the simulation was given: simulated time and the picture's first pixels."""

    at_s: list[float] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    shapes: set[tuple[int, ...]] = field(default_factory=set)


class Camera:
    """A camera that notes what it is given; `misbehave` is called before each frame and may spend time or raise."""

    name = "simulated"

    def __init__(self, live: "LiveSimulation") -> None:
        self._live = live

    def send(self, picture: np.ndarray) -> None:
        live = self._live
        live.misbehave(len(live.sent.at_s))
        live.sent.at_s.append(live.timeline.now())
        live.sent.index.append(live.shown_index(picture))
        live.sent.shapes.add(picture.shape)

    def close(self) -> None:
        self._live.closed += 1


class LiveSimulation:
    """Session, keeper, inference and camera feed on one `Timeline`. `drawing_s(index)` says how long a frame takes."""

    def __init__(
        self,
        pack: Path,
        wish: Wish | None = None,
        doors: SoundDoors | None = None,
        fps: int = 30,
        size: tuple[int, int] = (320, 180),
    ) -> None:
        self.timeline = Timeline()
        self.sent = Sent()
        self.closed = 0
        self.opened = 0
        self.drawing_s: Callable[[int], float] = lambda index: 0.012
        self.misbehave: Callable[[int], None] = lambda number: None
        self.open: Callable[[str], Camera] = lambda name: Camera(self)
        width, height = size
        self.session = Session(
            open_avatar(pack), "onnxruntime", Controls(), width, height, Fraction(fps), self._open,
            camera_name="simulated", now=self.timeline.now,
        )  # fmt: skip
        self.session.to_camera = LateSlot(self.timeline)
        self.capture = Capture(self.session.clock, self.session.ledger)
        self.pacer = Pacer(self.session.clock, self.session.avatar.lookahead_hops * 160, self.session.fps)
        delay = lambda: self.session.video_delay_s  # noqa: E731
        self.keeper = SoundKeeper(self.capture, self.session.ledger.events, 0.0, doors, delay)
        if wish is not None:
            self.keeper.want_microphone(wish)
        self.inference = Inference(self.session, self.capture, self.keeper, self.pacer, AtOnce())
        self.feed = CameraFeed(self.session, self.pacer)
        self._drawn: dict[int, int] = {}
        self._keep_pictures: list[np.ndarray] = []
        self._slow_down()
        for worker in (self.keeper, self.inference, self.feed):
            self.timeline.give_turns(worker)

    def _open(self, name: str) -> Camera:
        self.opened += 1
        return self.open(name)

    def _slow_down(self) -> None:
        draw, compose = self.inference._draw, self.inference._compose

        def slow_draw(animator: Any) -> None:
            index = self.inference._first_frame + animator.next_index

            def slow_compose(*words: Any) -> Any:
                self.timeline.spend(self.drawing_s(index))
                picture = compose(*words)
                self._drawn[id(picture)] = index
                self._keep_pictures.append(picture)  # so that no other picture gets its id
                return picture

            self.inference._compose = slow_compose  # type: ignore[method-assign]
            draw(animator)

        self.inference._draw = slow_draw  # type: ignore[method-assign]

    def shown_index(self, picture: np.ndarray) -> int:
        """Stream index of a picture that was sent."""
        return self._drawn[id(picture)]

    def run(self, seconds: float) -> None:
        """Goes on for so long."""
        self.timeline.run_until(self.timeline.now_s + seconds)

    def close(self) -> None:
        self.inference.close()
        self.feed.close()
        self.keeper.close()
