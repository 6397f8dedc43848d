"""The only way between Qt and the engine: wishes go out through one worker thread, statistics and pictures are pulled.

Everything that may take longer than a moment (opening an avatar, a device, a film) runs on the worker, in order; the window never waits.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from engine import Avatar, MouthpieceError, default_avatar
from engine.live import LiveEngine
from engine.voice_mood import hears
from gui.journal import Journal
from gui.listening import Listening
from gui.plugging import Plugging
from gui.running import Opener, Running
from gui.settings import Settings, preset_from, save, settings_path
from gui.state import Report, View, change, reset, resolve
from gui.switching import PLANNED, Switching
from gui.translation import people_of

POLL_MS = 100
GLANCE_EVERY = 20  # polls between two looks at whether something was plugged
POINTER_GAZE_DEG = (22.0, 14.0)


class Bridge(QObject):
    """Holds the intent, runs the engine, publishes Views. All methods belong to Qt's thread unless they say otherwise."""

    view_changed = pyqtSignal(object)
    people_changed = pyqtSignal(list)
    devices_changed = pyqtSignal(dict)
    presets_changed = pyqtSignal(list)
    message = pyqtSignal(str, str)
    wants_first_run = pyqtSignal()
    wants_guide = pyqtSignal()
    wants_outside = pyqtSignal()
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
        self.still_running = False
        self._avatar: Avatar | None = None
        self._taken: tuple[Avatar | None, str] = (None, "auto")  # what ran before the last wish
        self._polls = 0
        self._listening = Listening(self.journal)
        self._posted.connect(lambda job: job())
        self._outside.connect(self._from_outside)
        self.switching = Switching(self, self._tell, self.journal.note)
        self.switching.ready.connect(self._plans_ready)
        self.switching.preparing_changed.connect(lambda _: self._publish())
        self._running = Running(lambda: self.intent, self._tell, self.journal.note, opener or LiveEngine)
        self.plugging = Plugging()
        self.plugging.found.connect(self._devices_found)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.poll)
        self._timer.start(POLL_MS)

    @property
    def _engine(self) -> LiveEngine | None:
        return self._running.engine

    def _tell(self, title: str, words: str) -> None:
        """Any thread."""
        self.journal.note(f"{title}: {words}")
        self._posted.emit(lambda: self.message.emit(title, words))

    # --- life
    def open(self, avatar: Avatar) -> None:
        """Starts the engine with this avatar; an engine that runs is given the new avatar and goes on."""
        self._taken, wanted = (self._avatar, self.intent.backend), self.intent.backend
        if wanted == PLANNED:  # its plans may be missing or out of date: something else draws until that is known
            self.intent = replace(self.intent, backend="auto")
        self._show_avatar(avatar)
        self._running.start(avatar)
        if wanted == PLANNED:
            self.switching.wish(PLANNED, "auto", avatar.path)

    def _plans_ready(self) -> None:
        if self.report.backend.lower() == PLANNED:  # found by itself meanwhile
            self.intent = replace(self.intent, backend=PLANNED)
            self._publish()
        else:
            self._take({"backend": PLANNED})

    def _show_avatar(self, avatar: Avatar) -> None:
        self._avatar = avatar
        self.hears_emotion = hears(avatar)
        self.people = people_of(avatar)
        if self.intent.person not in avatar.people:
            self.intent = replace(self.intent, person=avatar.people[0])
        self.people_changed.emit(self.people)
        self._publish()

    def restart(self) -> None:
        """A new engine in place of one that failed."""
        if self._avatar is not None:
            self._running.restart(self._avatar)

    def close(self) -> None:
        """Ends film, camera and engine, and remembers the settings. Waits for the film's end, at most ten seconds; then
        `still_running` says that the process had better end without tidying up under the engine's feet.
        """
        self._timer.stop()
        backend = PLANNED if self.switching.preparing else self.intent.backend
        self.switching.building.close()
        self.still_running = not self._running.close()
        self.settings.remember(replace(self.intent, backend=backend))
        complaint = save(self.settings, settings_path())
        if complaint:
            self.journal.note(complaint)

    # --- wishes
    def act(self, changes: dict[str, Any]) -> None:
        """Takes changed settings from a view; what the engine must know is passed on."""
        if "backend" in changes and self._avatar is not None:
            present = self.intent.backend
            changes = {**changes, "backend": self.switching.wish(changes["backend"], present, self._avatar.path)}
        self._take(changes)

    def _take(self, changes: dict[str, Any]) -> None:
        before = self.intent
        if before.recording and changes.get("quality", before.quality) != before.quality:
            self._tell("Picture", "The picture's size cannot change within a film: stop the recording first.")
            self.view_changed.emit(self.view)  # the list shows again what is
            return
        try:
            self.intent = change(before, **changes)
        except ValueError as error:
            self.journal.note(str(error))
            return
        self._publish()
        if self.intent.quality != before.quality:
            self.restart()
        if self.intent.backend != before.backend:
            self._taken = (self._avatar, before.backend)
        try:
            self._running.pass_on(before, self.intent, self._avatar, self.hears_emotion)
        except MouthpieceError as error:
            self.message.emit("Setting", str(error))

    def reset(self, *names: str) -> None:
        """The named settings back at their defaults."""
        plain = reset(self.intent, *names)
        self.act({name: getattr(plain, name) for name in names})

    def toggle_camera(self) -> None:
        self.act({"on_air": not self.intent.on_air})

    def start_recording(self, path: str) -> None:
        self.act({"recording": path})
        self._running.record(path, lambda: self._posted.emit(lambda: self.act({"recording": ""})))

    def stop_recording(self) -> None:
        path = self.intent.recording
        self.act({"recording": ""})
        self._running.with_engine(lambda engine: engine.stop_recording())
        self.journal.note(f"recording to {Path(path).name} ended")

    def speak(self, path: str) -> None:
        """Speaks a file once through the face, then listens to the microphone again."""
        self._running.with_engine(lambda engine: engine.speak_file(path))

    def import_avatar(self, path: str) -> None:
        """Verifies a pack and shows it; refused with the reason if it does not verify."""

        def verify() -> None:
            from engine import open_avatar

            avatar = open_avatar(path)
            self.settings.avatar = path
            self._posted.emit(lambda: self.open(avatar))

        self._running.later(verify)

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

    # --- saved looks
    def save_preset(self, name: str, hotkey: str) -> None:
        self.settings.keep(preset_from(self.intent, name, hotkey))
        self.presets_changed.emit(self.settings.presets)

    def recall_preset(self, name: str) -> None:
        preset = self.settings.preset(name)
        if preset is None:
            self.journal.note(f"there is no saved look named {name!r}")
            return
        look = dict(preset.look)
        if self._avatar is not None and look.get("person") not in self._avatar.people:
            look.pop("person", None)
        self.act(look)

    def delete_preset(self, name: str) -> None:
        self.settings.forget(name)
        self.presets_changed.emit(self.settings.presets)

    # --- devices, pages
    def look_for_devices(self, anew: bool = True) -> None:
        """Asks the system what is plugged in; the answer comes as `devices_changed`."""
        self.plugging.look(anew)

    def _devices_found(self, found: dict[str, list[tuple[str, str]]]) -> None:
        self.devices = found
        self.devices_changed.emit(found)
        self._publish()

    # --- looking
    def pull_picture(self) -> NDArray[np.uint8] | None:
        """The newest camera picture `[H, W, 3]` if it has not been shown yet."""
        engine = self._engine
        frame = engine.preview.take() if engine is not None else None
        return None if frame is None else frame.picture

    def poll(self) -> None:
        """Looks at the engine and publishes what changed."""
        self._polls += 1
        if self._polls % GLANCE_EVERY == 0:
            self.plugging.glance()
        engine = self._engine
        if engine is None:
            return
        heard = self._listening.hear(engine)
        self.report = heard.report
        if self.intent.recording and (self.report.recording_failure or self.report.failure):  # what was filmed is kept
            self.intent = replace(self.intent, recording="")
        if heard.refused:
            self._take_back(heard.refused)
        if self.report.failure and not self.report.frames and self.intent.backend != "auto":
            self.switching.fell_back(self.intent.backend, self.report.failure)
            self.intent, self.report = replace(self.intent, backend="auto"), Report()
            self.restart()
        self._publish()

    def _take_back(self, reason: str) -> None:
        """The engine went on as it was before the last wish: so does the intent."""
        avatar, backend = self._taken
        self.switching.refused(reason)
        self.intent = replace(self.intent, backend=backend)
        if avatar is not None and avatar is not self._avatar:
            self.settings.avatar = "" if avatar.path == default_avatar() else str(avatar.path)
            self._show_avatar(avatar)

    def _publish(self) -> None:
        view = resolve(self.intent, self.report, self.switching.preparing)
        if view != self.view:
            self.view = view
            self.view_changed.emit(view)
