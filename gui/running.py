"""The engine that runs: started, told what changed, and stopped, in order, on a worker thread; the window never waits."""

import traceback
from collections.abc import Callable
from typing import Protocol

from engine import Avatar, Controls, MouthpieceError
from engine.live import LiveConfig, LiveEngine
from engine.voice_mood import hears
from gui.state import QUALITIES, Intent
from gui.translation import controls_of
from gui.wishes import Wishes

Tell = Callable[[str, str], None]


class Opener(Protocol):
    """Makes an engine for an avatar; tests hand in one with doors of their own."""

    def __call__(self, avatar: Avatar, config: LiveConfig) -> LiveEngine: ...


class Running:
    """One engine at a time. `wanted` gives the intent of the moment and `tell` a title and words; both are called on the
    worker's thread too. Methods belong to the thread that made this.
    """

    def __init__(self, wanted: Callable[[], Intent], tell: Tell, note: Callable[[str], None], opener: Opener) -> None:
        self.engine: LiveEngine | None = None
        self._wanted, self._tell, self._note, self._open = wanted, tell, note, opener
        self._controls = Controls()
        self._wishes = Wishes(self._wish_failed)

    def later(self, job: Callable[[], None]) -> None:
        """Does `job` when what was wished before is done."""
        self._wishes.later(job)

    def with_engine(self, job: Callable[[LiveEngine], None]) -> None:
        """Likewise, with the engine, if there is one then."""

        def run() -> None:
            engine = self.engine
            if engine is not None:
                job(engine)

        self.later(run)

    def start(self, avatar: Avatar) -> None:
        """Starts an engine with this avatar; one that runs is given the new avatar and goes on."""
        self.later(lambda: self._start(avatar))

    def restart(self, avatar: Avatar) -> None:
        """A new engine in place of the present one, which is not looked at any more from now on."""
        old, self.engine = self.engine, None
        if old is not None:
            self.later(old.stop)
        self.start(avatar)

    def _start(self, avatar: Avatar) -> None:
        if self.engine is not None and self.engine.failure is None:
            self.engine.set_avatar(avatar, self._wanted().backend)
            return
        old, self.engine = self.engine, None
        if old is not None:
            old.stop()
        intent = self._wanted()
        width, height = QUALITIES[intent.quality]
        config = LiveConfig(
            microphone="none",
            camera="none",
            monitor="none",
            backend=intent.backend,
            controls=controls_of(intent, hears(avatar)),
            muted=intent.muted,
            width=width,
            height=height,
        )
        engine = self._open(avatar, config)
        engine.start()
        self.engine = engine
        self._note(f"engine started with {avatar.name}")
        self._connect_devices(engine, intent)

    def _connect_devices(self, engine: LiveEngine, intent: Intent) -> None:
        for setter, name in ((engine.set_microphone, intent.mic), (engine.set_monitor, intent.monitor)):
            try:
                setter(name)
            except MouthpieceError as error:
                self._tell("Device", str(error))
        if intent.on_air:
            engine.set_camera(intent.camera)

    def close(self) -> bool:
        """Ends film, camera and engine. Waits for the film's end, at most ten seconds; False if it took longer."""

        def stop() -> None:
            engine, self.engine = self.engine, None
            if engine is not None:
                engine.stop()

        self.later(stop)
        return self._wishes.close()

    def record(self, path: str, not_begun: Callable[[], None]) -> None:
        """Begins a film; `not_begun` is called, on the worker's thread, where it cannot be begun."""

        def begin(engine: LiveEngine) -> None:
            try:
                engine.start_recording(path)
            except MouthpieceError:
                not_begun()
                raise

        self.with_engine(begin)

    def pass_on(self, before: Intent, now: Intent, avatar: Avatar | None, hears_emotion: bool) -> None:
        """Tells the engine what changed. Raises `MouthpieceError` for a setting that it does not take."""
        if now.muted != before.muted:
            self.with_engine(lambda engine: engine.set_muted(now.muted))
        if now.mic != before.mic:
            self.with_engine(lambda engine: engine.set_microphone(now.mic))
        if now.monitor != before.monitor:
            self.with_engine(lambda engine: engine.set_monitor(now.monitor))
        if (now.on_air, now.camera) != (before.on_air, before.camera):
            self.with_engine(lambda engine: engine.set_camera(now.camera if now.on_air else "none"))
        if now.backend != before.backend and avatar is not None:
            self.with_engine(lambda engine: engine.set_avatar(avatar, now.backend))
        controls = controls_of(now, hears_emotion)
        if controls != self._controls:
            self._controls = controls
            engine = self.engine
            if engine is not None:
                engine.set_controls(controls)

    def _wish_failed(self, error: Exception) -> None:
        """The worker's thread."""
        if isinstance(error, MouthpieceError):
            self._tell("Mouthpiece", str(error))
            return
        self._note("".join(traceback.format_exception(error))[-2000:])
        self._tell("Something went wrong", f"{type(error).__name__}: {error}. The log has the details.")
