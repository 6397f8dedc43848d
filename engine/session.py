"""What the workers of a live session share, and the threads that give them their turns.

    PortAudio callback --> Ring --> Inference --> Slot --> CameraFeed (paced) --> Slot (preview)
                                             \\--> Recording (bounded queues of its own)

A worker does one thing in small steps and says when it wants its next turn. A step takes the time from its caller, so
tests run the same workers on a clock of their own.
"""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.avatar import Avatar
from engine.clock import StreamClock
from engine.controls import Controls
from engine.errors import MouthpieceError
from engine.outputs.slot import Slot
from engine.outputs.virtual_camera import Camera
from engine.recording import Recording
from engine.stats import Ledger

LONGEST_NAP_S = 0.02


@dataclass(frozen=True)
class LiveFrame:
    """What the camera is given: `picture [H, W, 3]` uint8 RGB, which nobody may write to; its index in stream time; the
    newest 16 kHz sample that shaped it; when it was ready; the face's 60 weights, for software that draws for itself.
    """

    picture: NDArray[np.uint8]
    index: int
    newest_sample: int
    ready_s: float
    expression: NDArray[np.float32] | None


@dataclass
class Session:
    """Wishes (`avatar`, `backend`, `controls`, `camera_name`, `recording`) are replaced whole, by any thread; workers
    look at them in every step. The rest is written by the worker that owns it and may be read by any thread.
    """

    avatar: Avatar
    backend: str
    controls: Controls
    width: int
    height: int
    fps: Fraction
    open_camera: Callable[[str], Camera]
    camera_name: str = "none"
    recording: Recording | None = None
    now: Callable[[], float] = time.perf_counter
    began_s: float = 0.0
    clock: StreamClock = field(default_factory=StreamClock)
    ledger: Ledger = field(default_factory=Ledger)
    to_camera: Slot[LiveFrame] = field(default_factory=Slot)
    preview: Slot[LiveFrame] = field(default_factory=Slot)
    running_on: str = ""
    heard_person: str | None = None  # whom the voice chose, where it may choose
    video_delay_s: float = 0.0  # from a sound to the frame that shows it leaving for the camera, smoothed

    @property
    def person(self) -> str:
        """Who is shown."""
        return self.heard_person or self.controls.person or self.avatar.people[0]

    def say(self, kind: str, text: str) -> None:
        """Notes an event. Any thread."""
        self.ledger.events.add(self.now() - self.began_s, kind, text)


class Worker(Protocol):
    """Something that works in steps on a thread of its own."""

    def step(self, now_s: float) -> float:
        """Does what is due and returns when to come again, in seconds of the session's clock."""

    def close(self) -> None:
        """Gives back what the worker holds. Same thread as `step`."""


@dataclass(frozen=True)
class Failure:
    """Why a worker ended: one line for people, and for a bug in ours the traceback."""

    worker: str
    reason: str
    details: str = ""

    def __str__(self) -> str:
        return f"{self.worker}: {self.reason}"


class Turns:
    """A thread that gives one worker its turns until `stop`, or until it fails; the failure is kept and told once."""

    def __init__(self, name: str, worker: Worker, on_failure: Callable[[Failure], None]) -> None:
        self.name = name
        self._worker, self._on_failure = worker, on_failure
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, wait_s: float) -> bool:
        """Asks the worker to end after its present step; True if it did within `wait_s`. Any thread but its own."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                next_s = self._worker.step(time.perf_counter())
                # Short naps by `sleep`: it is precise on every system, where waiting for an event is not.
                while (rest_s := next_s - time.perf_counter()) > 0 and not self._stopping.is_set():
                    time.sleep(min(rest_s, LONGEST_NAP_S))
        except MouthpieceError as error:
            self._on_failure(Failure(self.name, str(error)))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            self._on_failure(Failure(self.name, reason, traceback.format_exc()))
        finally:
            self._close()

    def _close(self) -> None:
        try:
            self._worker.close()
        except Exception as error:  # what was going wrong before matters more
            self._on_failure(Failure(self.name, f"while closing: {error}", traceback.format_exc()))
