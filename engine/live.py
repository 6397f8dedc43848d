"""The live engine: a voice becomes a face while it speaks. Everything about it may be changed while it runs."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.audio import portaudio
from engine.audio.capture import Capture
from engine.audio.files import read_speech
from engine.audio.keeper import SoundDoors, SoundKeeper, Wish
from engine.avatar import Avatar
from engine.camera_feed import CameraFeed
from engine.controls import Controls
from engine.errors import AudioError, AvatarError, OutputError
from engine.inference import Inference
from engine.live_config import LiveConfig, Statistics
from engine.outputs.slot import Slot
from engine.outputs.virtual_camera import Camera, VirtualCamera, find_camera
from engine.pacing import Pacer
from engine.recording import Recording
from engine.session import Failure, LiveFrame, Session, Turns
from engine.voice_mood import require_reader

__all__ = ["LiveConfig", "LiveEngine", "LiveFrame", "Statistics", "is_sound_file"]

SOUND_FILES = (".wav", ".flac", ".mp3", ".opus", ".ogg", ".m4a", ".aac", ".mp4", ".mov", ".mkv", ".webm")
STOP_S = 5.0
SAMPLE_EVERY_S = 1.0


class LiveEngine:
    """A session from `start` to `stop`. Every method may be called from any one thread at a time, the GUI's for
    instance; none waits for a frame. Only `start`, `stop`, `set_microphone` with a file, and `start_recording` take
    longer than a moment (a second or two): a window calls those from a thread of its own.

    A worker that fails ends the film, which is finished, and leaves the camera on its last picture until `stop`;
    `failure` says why. A device that is lost is no failure: it is opened again, and an event tells.
    """

    def __init__(self, avatar: Avatar, config: LiveConfig | None = None, *, doors: SoundDoors | None = None) -> None:
        self._config = config or LiveConfig()
        self._doors = doors
        self._open_camera: Callable[[str], Camera] = self._open_virtual_camera
        self._session = self._new_session(avatar, "auto" if config is None else config.backend)
        self._lock = threading.Lock()
        self._threads: list[Turns] = []
        self._films: list[Recording] = []
        self._failure: Failure | None = None
        self._stopped_s: float | None = None
        self._wire()

    def _new_session(self, avatar: Avatar, backend: str) -> Session:
        config = self._config
        return Session(
            avatar, backend, config.controls, config.width, config.height, config.fps,
            open_camera=lambda name: self._open_camera(name), camera_name="none",
        )  # fmt: skip

    def _wire(self) -> None:
        session = self._session
        self._capture = Capture(session.clock, session.ledger)
        self._capture.muted = self._config.muted
        self._pacer = Pacer(session.clock, session.avatar.lookahead_hops * 160, session.fps)
        self._keeper = SoundKeeper(
            self._capture, session.ledger.events, 0.0, self._doors, lambda: session.video_delay_s
        )
        self._feed = CameraFeed(session, self._pacer)
        self._inference = Inference(session, self._capture, self._keeper, self._pacer)

    def _open_virtual_camera(self, name: str) -> Camera:
        config = self._config
        return VirtualCamera(find_camera(name), config.width, config.height, float(config.fps))

    # Life

    def start(self) -> None:
        """Begins to listen and to send frames. Raises `MouthpieceError` for a named device, file or person that is not
        there; a missing default microphone is no error, the face idles until one is plugged in.
        """
        if self._threads:
            raise RuntimeError("this engine has been started; make a new one for a new session")
        self.set_controls(self._config.controls)
        self.set_microphone(self._config.microphone)
        self.set_monitor(self._config.monitor)
        if self._config.camera != "none":
            find_camera(self._config.camera)
        self.set_camera(self._config.camera)
        now_s = time.perf_counter()
        self._session.began_s = now_s
        self._keeper.began_s = now_s
        self._session.clock.anchor(0, now_s)
        self._threads = [
            Turns("inference", self._inference, self._fail),
            Turns("camera", self._feed, self._fail),
            Turns("sound devices", self._keeper, self._fail),
            Turns("statistics", _Sampler(self._session), self._fail),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends everything in order: inference, film (finished), camera, devices. Safe to call twice."""
        with self._lock:
            if self._stopped_s is None and self._threads:
                self._stopped_s = time.perf_counter()
            self.stop_recording()
            ended = [thread.name for thread in self._threads if not thread.stop(STOP_S)]
            for film in self._films:
                film.finish(wait_s=60.0)
        if ended:
            self._session.say("stuck", f"did not end within {STOP_S:.0f} s: {', '.join(ended)}")

    def _fail(self, failure: Failure) -> None:
        """Keeps the first failure and finishes the film. The failing worker's thread."""
        if self._failure is None:
            self._failure = failure
            self._session.say("failed", str(failure))
        self.stop_recording()

    @property
    def failure(self) -> Failure | None:
        """Why the face stopped, if it did."""
        return self._failure

    # Wishes

    def set_controls(self, controls: Controls) -> None:
        """What the face should do from now on; it moves there smoothly. Raises `AvatarError` for an unknown person,
        or if the avatar has no voice reader and the voice should decide.
        """
        people = self._session.avatar.people
        if controls.person is not None and controls.person not in people:
            raise AvatarError(f"this avatar has no person {controls.person!r}; it has {', '.join(people)}")
        require_reader(self._session.avatar, controls)
        self._session.controls = controls

    def set_avatar(self, avatar: Avatar, backend: str | None = None) -> None:
        """Another avatar or back end, while the camera goes on. If it does not run here, the present one stays."""
        self._session.avatar, self._session.backend = avatar, backend or self._session.backend

    def set_microphone(self, name: str) -> None:
        """Listens to another microphone, a file (in a loop), or nothing ("none"). Raises `AudioError` for a file that
        cannot be read. A device that is not there is looked for until it is; `statistics().microphone_message` tells.
        """
        if name == "none":
            self._keeper.want_microphone(Wish("off"))
        elif is_sound_file(name):
            self._keeper.want_microphone(Wish("file", Path(name).name, read_speech(name)))
        else:
            self._check_sound_device(name, "input")
            self._keeper.want_microphone(Wish("device", name))

    def _check_sound_device(self, name: str, direction: portaudio.Direction) -> None:
        """Raises `AudioError` at the start for a name that is not there. Later the keeper looks anew: what was plugged in
        since is not in PortAudio's list, and only the keeper may restart PortAudio then.
        """
        if not name or self._threads or self._doors is not None:
            return
        try:
            portaudio.find(name, direction)
        except AudioError:
            portaudio.restart()
            portaudio.find(name, direction)

    def speak_file(self, path: str | Path) -> None:
        """Speaks a file once, then listens again to what was listened to before. Raises `AudioError`."""
        self._keeper.want_microphone(Wish("file", Path(path).name, read_speech(path), loop=False))

    def set_muted(self, muted: bool) -> None:
        """Hears only silence while muted: the mouth closes, film and monitor are silent too."""
        self._capture.muted = muted

    def set_camera(self, name: str) -> None:
        """Sends frames to another virtual camera, or to none ("none"). What is not there is tried every second."""
        self._session.camera_name = name

    def set_monitor(self, name: str) -> None:
        """Passes the voice on to an output, as late as the face, or to none ("none"). One that is not there is looked
        for until it is; `statistics().monitor_message` tells.
        """
        if name != "none":
            self._check_sound_device(name, "output")
        self._keeper.want_monitor(None if name == "none" else name)

    def start_recording(self, path: str | Path) -> None:
        """Begins a film. Raises `OutputError` if it cannot be written or one is being made."""
        session = self._session
        if session.recording is not None and session.recording.running:
            raise OutputError(f"{session.recording.path} is being recorded; stop that first")
        film = Recording(Path(path), session.width, session.height, session.avatar.name)
        film.begin()
        self._films = [*(film for film in self._films if film.running), film]
        session.recording = film

    def stop_recording(self) -> None:
        """Ends the film; the file takes its name a moment later (`statistics().recording` is then empty)."""
        film, self._session.recording = self._session.recording, None
        if film is not None:
            film.finish()

    # Looking

    @property
    def preview(self) -> Slot[LiveFrame]:
        """The frames that the camera is given. `take` it from one thread, on a timer; `peek` from any."""
        return self._session.preview

    def statistics(self) -> Statistics:
        """What is going on now. Cheap enough to be asked 30 times a second."""
        session, ledger, keeper, capture = self._session, self._session.ledger, self._keeper, self._capture
        now_s = time.perf_counter()
        film = self._films[-1] if self._films else None
        end_s = self._stopped_s or now_s
        return Statistics(
            running=bool(self._threads) and self._stopped_s is None and self._failure is None,
            failure=str(self._failure or ""),
            seconds=end_s - session.began_s if self._threads else 0.0,
            microphone=keeper.microphone_name, microphone_status=keeper.status, microphone_message=keeper.message,
            microphone_silent_s=max(0.0, now_s - max(session.began_s, capture.heard_at_s)),
            level=capture.level, clipping=now_s - capture.clipped_at_s < 1.0, muted=capture.muted,
            camera=self._feed.name, camera_ok=self._feed.camera_ok, camera_message=self._feed.message,
            monitor=keeper.monitor.name if keeper.monitor else "", monitor_message=keeper.monitor_message,
            fps=ledger.camera_rate.per_second(now_s), frames=ledger.frames, late=ledger.late, dropped=ledger.dropped,
            latency_p50_ms=ledger.latency.quantile(0.5), latency_p95_ms=ledger.latency.quantile(0.95),
            video_delay_ms=1000 * session.video_delay_s,
            cpu_percent=ledger.memory.cpu_percent, rss_mb=ledger.memory.rss_mb,
            backend=session.running_on, person=session.person,
            recording=str(film.path) if film and film.running else "",
            recording_s=film.seconds if film else 0.0, recording_failure=film.failure if film else "",
            events=ledger.events.newest(20),
        )  # fmt: skip

    def report(self) -> dict[str, Any]:
        """The figures of the session so far, as JSON has them."""
        now, ledger = self.statistics(), self._session.ledger
        return {
            "seconds": round(now.seconds, 3),
            "fps": round(ledger.frame_rate(), 3),
            "frames": now.frames,
            "late": now.late,
            "dropped": now.dropped + self._session.to_camera.overwritten,
            "skipped_ticks": self._pacer.skipped,
            "latency_ms": ledger.latency.summary(),
            "video_delay_ms": round(now.video_delay_ms, 1),
            "rss_mb": ledger.memory.summary(),
            "cpu_percent": ledger.memory.mean_cpu_percent(),
            "stages_ms": ledger.stages(),
            "backend": now.backend,
            "avatar": self._session.avatar.name,
            "person": now.person,
            "microphone": now.microphone,
            "camera": now.camera,
            "silence_filled_s": round(ledger.silence_filled_s, 3),
            "backlog_dropped_s": round(ledger.backlog_dropped_s, 3),
            "slept_s": round(ledger.slept_s, 1),
            "overrun_frames": ledger.overrun_frames,
            "recording_dropped": sum(film.dropped for film in self._films),
            "failure": now.failure,
            "event_counts": ledger.events.counts(),
            "events": [asdict(event) for event in ledger.events.newest()],
        }


class _Sampler:
    """Looks at memory and processor once a second, and at the film: a full disk ends it, not the session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def step(self, now_s: float) -> float:
        self._session.ledger.memory.sample()
        film = self._session.recording
        if film is not None and film.failure:
            self._session.recording = None
            self._session.say("recording failed", film.failure)
        return now_s + SAMPLE_EVERY_S

    def close(self) -> None:
        """Nothing to give back."""


def is_sound_file(name: str) -> bool:
    """Whether a microphone's name means a file: it exists, or ends as sound and video files do."""
    return Path(name).suffix.lower() in SOUND_FILES or (bool(name) and Path(name).is_file())
