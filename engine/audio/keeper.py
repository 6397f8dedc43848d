"""Keeps the microphone and the monitor open: notices what PortAudio does not report, and opens again what comes back.

A lost microphone looks like silence: callbacks stop, or bring exact zeros for ever, without a word from PortAudio. So
the age of the last callback and the zeros are watched; the device is closed and opened again, with PortAudio restarted
when its list no longer holds it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.audio import portaudio
from engine.audio.capture import Capture, Source
from engine.audio.monitor import Monitor
from engine.audio.sources import FileMicrophone, Microphone
from engine.errors import AudioError
from engine.stats import EventLog

STALLED_S, START_S = 0.5, 1.5  # without a callback: lost; a device that was just opened gets longer
RETRY_S, LATER_RETRY_S, PATIENT_AFTER = 0.5, 1.0, 20
ZEROS_S, ZEROS_MOST_S = 3.0, 60.0
OVERFLOWS, LATENCIES = 5, ("low", 0.05, 0.1, 0.2)  # this many flags in a second: ask for a longer buffer
LOOK_EVERY_S = 0.05

Status = Literal["off", "live", "lost", "silent", "file"]


class SpeakerStream(Protocol):
    """An open output."""

    name: str

    def set_delay(self, seconds: float) -> None: ...
    def push(self, samples: NDArray[np.float32], rate: int, late_s: float) -> None: ...
    def age_s(self, now_s: float) -> float: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Wish:
    """What should be heard: a device by (part of) its name, "" for the default; a file's samples; or nothing."""

    kind: Literal["off", "device", "file"] = "off"
    name: str = ""
    samples: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    rate: int = 16000
    loop: bool = True


@dataclass(frozen=True)
class SoundDoors:
    """How devices are opened. Tests put faulty ones here; everyone else uses the real ones."""

    microphone: Callable[[str, float | str], Source] = lambda name, latency: Microphone(
        portaudio.find(name, "input"), latency
    )
    monitor: Callable[[str], SpeakerStream] = lambda name: Monitor(portaudio.find(name, "output"))
    restart: Callable[[], None] = portaudio.restart


class SoundKeeper:
    """`want_microphone`, `want_monitor` and the read-only fields: any thread. `step` and `close`: the keeper's own
    thread.
    """

    def __init__(
        self,
        capture: Capture,
        events: EventLog,
        began_s: float,
        doors: SoundDoors | None = None,
        video_delay_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._video_delay_s = video_delay_s
        self._capture, self._events, self.began_s = capture, events, began_s
        self._doors = doors or SoundDoors()
        self._wish, self._before, self._granted = Wish(), Wish(), Wish()
        self._monitor_wish: str | None = None
        self._monitor_granted: str | None = None
        self._source: Source | None = None
        self.monitor: SpeakerStream | None = None
        self.status: Status = "off"
        self.microphone_name = ""
        self.message = ""
        self.monitor_message = ""
        self._tries = 0
        self._next_try_s = self._monitor_try_s = 0.0
        self._opened_s = 0.0
        self._zeros_s = ZEROS_S
        self._latency = 0
        self._flags, self._flags_at_s = 0, 0.0

    def want_microphone(self, wish: Wish) -> None:
        """From now on, listen to this. A file that plays once gives way to what was listened to before it."""
        if wish.kind == "file" and not wish.loop and not (self._wish.kind == "file" and not self._wish.loop):
            self._before = self._wish
        self._wish = wish

    def want_monitor(self, name: str | None) -> None:
        """Pass the voice on to the output of this name ("" for the default one), or to none."""
        self._monitor_wish = name

    def step(self, now_s: float) -> float:
        """Looks after both devices; returns when to call again."""
        if self._wish is not self._granted:
            self._leave(self._wish, now_s)
        if self._wish.kind == "device":
            if self._source is not None:
                self._watch(self._source, now_s)
            elif now_s >= self._next_try_s:
                self._try_to_open(now_s)
        elif isinstance(self._source, FileMicrophone) and self._source.finished:
            self._say(now_s, "file spoken", f"{self._source.name} was heard to its end")
            self._wish = self._before
        self._look_after_monitor(now_s)
        return now_s + LOOK_EVERY_S

    def close(self) -> None:
        """Gives the devices back."""
        self._drop_source()
        self._drop_monitor()

    def _say(self, now_s: float, kind: str, text: str) -> None:
        self._events.add(now_s - self.began_s, kind, text)

    def _leave(self, wish: Wish, now_s: float) -> None:
        """Closes what was open and takes up `wish`."""
        self._drop_source()
        self._granted, self._tries, self._next_try_s, self._latency = wish, 0, now_s, 0
        self._zeros_s = ZEROS_S
        self.message, self.status, self.microphone_name = "", "off", ""
        if wish.kind == "file":
            self._take(FileMicrophone(wish.name, wish.samples, wish.rate, loop=wish.loop), now_s)
            self.status = "file"

    def _take(self, source: Source, now_s: float) -> None:
        self._source, self.microphone_name, self._opened_s = source, source.name, now_s
        self._flags, self._flags_at_s = 0, now_s
        self._capture.attach(source)

    def _drop_source(self) -> None:
        if self._source is not None:
            self._capture.attach(None)
            self._source.close()
            self._source = None

    def _try_to_open(self, now_s: float) -> None:
        """One attempt; PortAudio is restarted before all but the first, for its list never changes by itself."""
        self._tries += 1
        try:
            if self._tries > 1:
                self._drop_monitor()
                self._doors.restart()
            source = self._doors.microphone(self._wish.name, LATENCIES[self._latency])
        except AudioError as error:
            if self.status != "lost":
                self._say(now_s, "microphone lost", str(error))
            self.status, self.message = "lost", str(error)
            self._next_try_s = now_s + (RETRY_S if self._tries < PATIENT_AFTER else LATER_RETRY_S)
            return
        if self.status == "lost":
            self._say(now_s, "microphone found", f"{source.name} is open again")
        self.status, self.message, self._tries = "live", "", 0
        self._take(source, now_s)

    def _watch(self, source: Source, now_s: float) -> None:
        started = getattr(source, "started", True)
        age_s = source.age_s(now_s)
        if age_s > (STALLED_S if started else START_S):
            self.status, self.message = "lost", f"{source.name} has delivered nothing for {age_s:.1f} s"
            self._say(now_s, "microphone lost", self.message)
            self._drop_source()
            self._tries, self._next_try_s = 1, now_s
        elif now_s - max(self._opened_s, self._capture.heard_at_s) > self._zeros_s:
            self._doubt_zeros(source, now_s)
        elif self._capture.heard_at_s > self._opened_s:
            self._zeros_s = ZEROS_S
            if self.status == "silent":
                self.status = "live"
        self._watch_overflows(source, now_s)

    def _doubt_zeros(self, source: Source, now_s: float) -> None:
        """Exact zeros: muted, or moved by the sound server to a source that is not there. Opening it again tells; ever
        more rarely.
        """
        if self.status != "silent":
            self._say(
                now_s, "microphone silent", f"{source.name} sends only zeros: muted, or not the one that is meant?"
            )
        self._drop_source()
        self._zeros_s = min(ZEROS_MOST_S, 2 * self._zeros_s)
        try:
            self._take(self._doors.microphone(self._wish.name, LATENCIES[self._latency]), now_s)
            self.status = "silent"
        except AudioError as error:
            self.status, self.message, self._tries, self._next_try_s = "lost", str(error), 1, now_s

    def _watch_overflows(self, source: Source, now_s: float) -> None:
        if now_s - self._flags_at_s < 1.0 or self._source is not source:
            return
        flags = getattr(source, "flagged", 0)
        if flags - self._flags >= OVERFLOWS and self._latency + 1 < len(LATENCIES):
            self._latency += 1
            self._say(
                now_s,
                "microphone overflows",
                f"{source.name} lost sound; opened again with a buffer of {LATENCIES[self._latency]} s",
            )
            self._drop_source()
            self._next_try_s = now_s
            return
        self._flags, self._flags_at_s = flags, now_s

    def _look_after_monitor(self, now_s: float) -> None:
        if self._monitor_wish != self._monitor_granted:
            self._drop_monitor()
            self._monitor_granted, self._monitor_try_s, self.monitor_message = self._monitor_wish, now_s, ""
        if self._monitor_granted is None:
            return
        if self.monitor is not None and self.monitor.age_s(now_s) > 2 * STALLED_S:
            self._say(now_s, "monitor lost", f"{self.monitor.name} has asked for no sound for a second")
            self._drop_monitor()
        if self.monitor is None and now_s >= self._monitor_try_s:
            self._monitor_try_s = now_s + LATER_RETRY_S
            try:
                self.monitor = self._doors.monitor(self._monitor_granted)
            except AudioError as error:
                if not self.monitor_message:
                    self._say(now_s, "monitor lost", str(error))
                    self._look_anew(now_s)
                self.monitor_message = str(error)
            else:
                self.monitor_message = ""
        if self.monitor is not None:
            self.monitor.set_delay(self._video_delay_s())

    def _look_anew(self, now_s: float) -> None:
        """Restarts PortAudio for an output that it may not know of yet; the microphone is open again in a moment."""
        if self._wish.kind == "device":
            self._drop_source()
            self._next_try_s = now_s
        with suppress(AudioError):  # whoever opens next says why not
            self._doors.restart()

    def _drop_monitor(self) -> None:
        monitor, self.monitor = self.monitor, None
        if monitor is not None:
            monitor.close()
