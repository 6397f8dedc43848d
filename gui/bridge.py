"""The only way between Qt and the engine: wishes go out through one worker thread, statistics and pictures are pulled.

Everything that may take longer than a moment (opening an avatar, a device, a film) runs on the worker, in order; the window never waits.
"""

import math
import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from engine import Avatar, Background, Controls, Framing, MouthpieceError
from engine.live import LiveConfig, LiveEngine, Statistics
from engine.voice_mood import hears
from gui.choices import device_choices, plugged
from gui.journal import Journal
from gui.settings import Settings, preset_from, save, settings_path
from gui.state import Intent, Report, View, change, reset, resolve

POLL_MS = 100
NOTES_EVERY = 5
LOOK_EVERY = 20  # polls between two looks at whether something was plugged
LOOK_AGAIN_S = 20.0  # where plugging cannot be seen: how often coming back to the window may look
POINTER_GAZE_DEG = (22.0, 14.0)


class Opener(Protocol):
    """Makes an engine for an avatar; tests hand in one with doors of their own."""

    def __call__(self, avatar: Avatar, config: LiveConfig) -> LiveEngine: ...


def controls_of(intent: Intent, hears_emotion: bool = False) -> Controls:
    """The engine's controls for what the person wants; the mood of the voice only where the avatar hears it. Raises
    `ControlError` for a picture that is not there.
    """
    gaze_mode: Any = {"camera": "camera", "wander": "wander", "pointer": "fixed"}[intent.gaze]
    pointing = intent.gaze == "pointer"
    return Controls(
        emotion=intent.emotion(),
        intensity=1.0,
        auto_emotion=intent.auto_emotion if hears_emotion else 0.0,
        pose=(math.radians(intent.yaw), math.radians(intent.pitch), math.radians(intent.roll)),
        gaze=(math.radians(intent.gaze_yaw), math.radians(intent.gaze_pitch)) if pointing else (0.0, 0.0),
        gaze_mode=gaze_mode,
        blink_rate=intent.blink_per_minute,
        idle=intent.idle,
        person=intent.person or None,
        background=background_of(intent),
        framing=Framing(intent.zoom, intent.offset_x, -intent.offset_y),
    )


def background_of(intent: Intent) -> Background:
    """Colour, picture (plain or blurred), chroma green, or nothing. A picture that is missing falls back to the colour."""
    red, green, blue = (int(intent.colour[i : i + 2], 16) for i in (1, 3, 5))
    if intent.background in ("image", "blur") and Path(intent.image).is_file():
        return Background("image" if intent.background == "image" else "blurred", image=Path(intent.image))
    if intent.background == "green":
        return Background("colour", (0, 177, 64))
    if intent.background == "transparent":
        return Background("transparent")
    return Background("colour", (red, green, blue))


def report_of(statistics: Statistics) -> Report:
    """The engine's statistics in the window's words."""
    s = statistics
    lost = s.microphone_status in ("lost", "off") and bool(s.microphone_message)
    return Report(
        alive=s.running, failure=s.failure, mic_name=s.microphone, mic_ok=s.microphone_status != "lost" and not lost,
        mic_silent_s=s.microphone_silent_s if s.microphone_status in ("live", "silent") else 0.0,
        camera_name=s.camera, camera_ok=s.camera_ok and s.camera != "none", camera_message=s.camera_message,
        level=s.level, clipping=s.clipping, fps=s.fps, frames=s.frames, late=s.late, dropped=s.dropped,
        latency_p50_ms=s.latency_p50_ms, latency_p95_ms=s.latency_p95_ms, cpu_percent=s.cpu_percent, rss_mb=s.rss_mb,
        backend=s.backend.split(" ")[0], recording_s=s.recording_s, recording_failure=s.recording_failure,
    )  # fmt: skip


def _in_words(about: str | dict[str, Any]) -> str:
    return about if isinstance(about, str) else ", ".join(map(str, about.values()))


class Bridge(QObject):
    """Holds the intent, runs the engine, publishes Views. All methods belong to Qt's thread unless they say otherwise."""

    view_changed = pyqtSignal(object)
    people_changed = pyqtSignal(list)
    devices_changed = pyqtSignal(dict)
    presets_changed = pyqtSignal(list)
    message = pyqtSignal(str, str)
    wants_first_run = pyqtSignal()
    wants_guide = pyqtSignal()
    _posted = pyqtSignal(object)
    _outside = pyqtSignal(str, object)

    def __init__(self, settings: Settings, opener: Opener | None = None, version: str = "") -> None:
        super().__init__()
        self.settings, self.version = settings, version
        self.intent = settings.restored_intent()
        self.report = Report()
        self.journal = Journal()
        self.people: list[tuple[str, str, str]] = []
        self.devices: dict[str, list[tuple[str, str]]] = {}
        self.hears_emotion = False
        self.view: View = resolve(self.intent, self.report)
        self._open: Opener = opener or (lambda avatar, config: LiveEngine(avatar, config))
        self._engine: LiveEngine | None = None
        self._avatar: Avatar | None = None
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="engine wishes", daemon=True)
        self._worker.start()
        self._posted.connect(lambda job: job())
        self._outside.connect(self._from_outside)
        self._controls = Controls()
        self._polls = 0
        self._plugged = plugged()
        self.still_running = False
        self._looking, self._looked_s = False, -LOOK_AGAIN_S
        self._heard_until = -1.0
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.poll)
        self._timer.start(POLL_MS)

    # --- the worker
    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except MouthpieceError as error:
                self._tell("Mouthpiece", str(error))
            except Exception as error:
                self.journal.note("".join(traceback.format_exception(error))[-2000:])
                self._tell("Something went wrong", f"{type(error).__name__}: {error}. The log has the details.")

    def _tell(self, title: str, words: str) -> None:
        """Any thread."""
        self.journal.note(f"{title}: {words}")
        self._posted.emit(lambda: self.message.emit(title, words))

    def _later(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)

    def _with_engine(self, job: Callable[[LiveEngine], None]) -> None:
        def run() -> None:
            engine = self._engine
            if engine is not None:
                job(engine)

        self._later(run)

    # --- life
    def open(self, avatar: Avatar) -> None:
        """Starts the engine with this avatar; an engine that runs is given the new avatar and goes on."""
        self._avatar = avatar
        self.hears_emotion = hears(avatar)
        manifest = avatar.manifest.people
        self.people = [
            (
                name,
                entry.about if isinstance(entry.about, str) else ", ".join(map(str, entry.about.values())),
                str(avatar.path / entry.preview),
            )
            for name, entry in manifest.items()
        ]
        if self.intent.person not in avatar.people:
            self.intent = replace(self.intent, person=avatar.people[0])
        self.people_changed.emit(self.people)
        self._publish()
        self._later(lambda: self._start(avatar))

    def _start(self, avatar: Avatar) -> None:
        if self._engine is not None and self._engine.failure is None:
            self._engine.set_avatar(avatar)
            return
        old, self._engine = self._engine, None
        if old is not None:
            old.stop()
        intent = self.intent
        config = LiveConfig(
            microphone="none",
            camera="none",
            monitor="none",
            backend=intent.backend,
            controls=controls_of(intent, self.hears_emotion),
            muted=intent.muted,
        )
        engine = self._open(avatar, config)
        self._heard_until = -1.0  # its clock begins anew
        engine.start()
        self._engine = engine
        self.journal.note(f"engine started with {avatar.name}")
        self._connect_devices(engine, intent)

    def _connect_devices(self, engine: LiveEngine, intent: Intent) -> None:
        for setter, name in ((engine.set_microphone, intent.mic), (engine.set_monitor, intent.monitor)):
            try:
                setter(name)
            except MouthpieceError as error:
                self._tell("Device", str(error))
        if intent.on_air:
            engine.set_camera(intent.camera)

    def restart(self) -> None:
        """A new engine in place of one that failed."""
        if self._avatar is not None:
            avatar = self._avatar
            self._later(lambda: self._start(avatar))

    def close(self) -> None:
        """Ends film, camera and engine, and remembers the settings. Waits for the film's end, at most ten seconds; then
        `still_running` says that the process had better end without tidying up under the engine's feet.
        """
        self._timer.stop()

        def stop() -> None:
            engine, self._engine = self._engine, None
            if engine is not None:
                engine.stop()

        self._later(stop)
        self._jobs.put(None)
        self._worker.join(timeout=10)
        self.still_running = self._worker.is_alive()
        self.settings.remember(self.intent)
        complaint = save(self.settings, settings_path())
        if complaint:
            self.journal.note(complaint)

    # --- wishes
    def act(self, changes: dict[str, Any]) -> None:
        """Takes changed settings from a view; what the engine must know is passed on."""
        before = self.intent
        try:
            self.intent = change(before, **changes)
        except ValueError as error:
            self.journal.note(str(error))
            return
        self._publish()
        self._pass_on(before, self.intent)

    def reset(self, *names: str) -> None:
        """The named settings back at their defaults."""
        plain = reset(self.intent, *names)
        self.act({name: getattr(plain, name) for name in names})

    def _pass_on(self, before: Intent, now: Intent) -> None:
        try:
            controls = controls_of(now, self.hears_emotion)
        except MouthpieceError as error:
            self.message.emit("Setting", str(error))
            return
        if controls != self._controls:
            self._controls = controls
            engine = self._engine
            if engine is not None:
                try:
                    engine.set_controls(controls)
                except MouthpieceError as error:
                    self.message.emit("Setting", str(error))
        if now.muted != before.muted:
            self._with_engine(lambda engine: engine.set_muted(now.muted))
        if now.mic != before.mic:
            self._with_engine(lambda engine: engine.set_microphone(now.mic))
        if now.monitor != before.monitor:
            self._with_engine(lambda engine: engine.set_monitor(now.monitor))
        if (now.on_air, now.camera) != (before.on_air, before.camera):
            self._with_engine(lambda engine: engine.set_camera(now.camera if now.on_air else "none"))
        if now.backend != before.backend and self._avatar is not None:
            avatar = self._avatar
            self._with_engine(lambda engine: engine.set_avatar(avatar, now.backend))

    def toggle_camera(self) -> None:
        self.act({"on_air": not self.intent.on_air})

    def start_recording(self, path: str) -> None:
        self.act({"recording": path})

        def begin(engine: LiveEngine) -> None:
            try:
                engine.start_recording(path)
            except MouthpieceError:
                self._posted.emit(lambda: self.act({"recording": ""}))
                raise

        self._with_engine(begin)

    def stop_recording(self) -> None:
        path = self.intent.recording
        self.act({"recording": ""})
        self._with_engine(lambda engine: engine.stop_recording())
        self.journal.note(f"recording to {Path(path).name} ended")

    def speak(self, path: str) -> None:
        """Speaks a file once through the face, then listens to the microphone again."""
        self._with_engine(lambda engine: engine.speak_file(path))

    def import_avatar(self, path: str) -> None:
        """Verifies a pack and shows it; refused with the reason if it does not verify."""

        def verify() -> None:
            from engine import open_avatar

            avatar = open_avatar(path)
            self.settings.avatar = path
            self._posted.emit(lambda: self.open(avatar))

        self._later(verify)

    def point_at(self, x: float, y: float) -> None:
        """The pointer over the preview, -1..1 each way: the eyes follow it when asked to."""
        if self.intent.gaze == "pointer":
            self.act({"gaze_yaw": x * POINTER_GAZE_DEG[0], "gaze_pitch": y * POINTER_GAZE_DEG[1]})

    def from_outside(self, name: str, value: object) -> None:
        """A setting from OSC, MIDI or a key; `preset` recalls a look, `toggle` turns a switch over. Any thread."""
        self._outside.emit(name, value)

    def _from_outside(self, name: str, value: object) -> None:
        if name == "preset":
            self.recall_preset(str(value))
        elif name == "toggle":
            self.act({str(value): not getattr(self.intent, str(value))})
        else:
            self.act({name: value})

    # --- presets
    def save_preset(self, name: str, hotkey: str) -> None:
        kept = [p for p in self.settings.presets if p.name != name]
        self.settings.presets = [*kept, preset_from(self.intent, name, hotkey)]
        self.presets_changed.emit(self.settings.presets)

    def recall_preset(self, name: str) -> None:
        for preset in self.settings.presets:
            if preset.name == name:
                look = dict(preset.look)
                if self._avatar is not None and look.get("person") not in self._avatar.people:
                    look.pop("person", None)
                self.act(look)
                return
        self.journal.note(f"there is no saved look named {name!r}")

    def delete_preset(self, name: str) -> None:
        self.settings.presets = [p for p in self.settings.presets if p.name != name]
        self.presets_changed.emit(self.settings.presets)

    # --- devices, pages
    def look_for_devices(self, anew: bool = True) -> None:
        """Asks the system what is plugged in, on a thread of its own; the answer comes as `devices_changed`. `anew` sees
        what came since the app started.
        """
        if self._looking:
            return
        self._looking, self._looked_s = True, time.monotonic()

        def look() -> None:
            try:
                found = device_choices(anew)
                self._posted.emit(lambda: self._devices_found(found))
            except RuntimeError:
                pass  # the window was closed meanwhile, and Qt has taken the bridge away

        threading.Thread(target=look, name="looks for devices", daemon=True).start()

    def came_back(self) -> None:
        """The window was activated: where plugging cannot be seen, devices are looked for now and then."""
        if not self._plugged and time.monotonic() - self._looked_s > LOOK_AGAIN_S:
            self.look_for_devices()

    def _watch_plugs(self) -> None:
        now = plugged()
        if now != self._plugged:
            self._plugged = now
            self.look_for_devices()

    def _devices_found(self, found: dict[str, list[tuple[str, str]]]) -> None:
        self.devices, self._looking = found, False
        self.devices_changed.emit(found)
        self._publish()

    def first_run(self) -> None:
        self.wants_first_run.emit()

    def new_avatar_guide(self) -> None:
        self.wants_guide.emit()

    # --- looking
    def pull_picture(self) -> NDArray[np.uint8] | None:
        """The newest camera picture `[H, W, 3]` if it has not been shown yet."""
        engine = self._engine
        frame = engine.preview.take() if engine is not None else None
        return None if frame is None else frame.picture

    def poll(self) -> None:
        """Looks at the engine and publishes what changed."""
        self._polls += 1
        if self._polls % LOOK_EVERY == 0:
            self._watch_plugs()
        engine = self._engine
        if engine is None:
            return
        statistics = engine.statistics()
        self.report = report_of(statistics)
        if self.intent.recording and (statistics.recording_failure or statistics.failure):  # what was filmed is kept
            self.intent = replace(self.intent, recording="")
        if self._polls % NOTES_EVERY == 0:
            self.journal.record(self.report)
        for event in statistics.events:
            if event.at_s > self._heard_until:
                self._heard_until = event.at_s
                self.journal.note(f"{event.kind}: {event.text}")
        self._publish()

    def _publish(self) -> None:
        view = resolve(self.intent, self.report)
        if view != self.view:
            self.view = view
            self.view_changed.emit(view)
