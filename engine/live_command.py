"""`python -m engine live`: the microphone to the virtual camera, from the command line."""

import json
import os
import signal
import sys
import time
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.status import Status
from rich.text import Text

from engine.avatar import default_avatar, open_avatar
from engine.controls import (
    Background,
    Controls,
    parse_background,
    parse_framing,
    parse_gaze,
    parse_mood,
    parse_person,
    parse_pose,
)
from engine.errors import ControlError, MouthpieceError, OutputError
from engine.live import LiveConfig, LiveEngine, Statistics

LOOK_EVERY_S = 0.25
LEVELS = "▁▂▃▄▅▆▇█"


def command(
    mic: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "",
    camera: Annotated[str, tyro.conf.arg(metavar="NAME|none")] = "",
    avatar: Path | None = None,
    person: Annotated[str | None, tyro.conf.arg(metavar="NAME|from-voice")] = None,
    emotion: Annotated[str, tyro.conf.arg(metavar="happy=0.7|auto")] = "",
    intensity: float = 1.0,
    pose: Annotated[str, tyro.conf.arg(metavar="yaw=10,pitch=-5")] = "",
    gaze: Annotated[str, tyro.conf.arg(metavar="camera|wander|yaw=5")] = "camera",
    blink_rate: float = 17.0,
    idle: float = 1.0,
    background: Annotated[str, tyro.conf.arg(metavar="green|#rrggbb|FILE|blur:FILE")] = "",
    framing: Annotated[str, tyro.conf.arg(metavar="zoom=1.2,x=0.1")] = "",
    mirror: bool = False,
    fps: float = 30.0,
    backend: str = "auto",
    monitor: Annotated[str, tyro.conf.arg(metavar="NAME|none")] = "none",
    record: Annotated[Path | None, tyro.conf.arg(metavar="OUT.mp4")] = None,
    seconds: float | None = None,
    report: Annotated[Path | None, tyro.conf.arg(metavar="R.json")] = None,
) -> int:
    """Speaks with the avatar's face: from a microphone into a virtual camera, until Ctrl-C.

    Args:
        mic: Part of a microphone's name, a sound or video file to play in its place (looped), or none.
        camera: Part of a virtual camera's name, "none" for no camera; without it, the first there is.
        avatar: An avatar pack; without it, the bundled one.
        person: Who of the pack; without it, the first; from-voice takes whom the voice fits.
        emotion: Weights 0..1 of anger, disgust, fear, happy, neutral, sad; auto, or auto=0.6, follows the voice.
        intensity: Multiplies the emotion.
        pose: Degrees of yaw, pitch and roll.
        gaze: Where the eyes look.
        blink_rate: Blinks a minute.
        idle: How much the head moves by itself, 0 to 2.
        background: What stands behind; a picture may be blurred.
        framing: Zoom, and offsets as shares of the frame's height.
        mirror: Flip the picture as a mirror would.
        fps: Frames a second for the camera, 1 to 30.
        backend: What runs the networks: auto, openvino, onnxruntime, tensorrt.
        monitor: An output that gets the voice as late as the face, such as a virtual microphone's cable.
        record: Film the session.
        seconds: Stop by itself after this long.
        report: Write what happened, with all figures, as JSON.
    """
    _check_output(report)
    gaze_mode, gaze_at = parse_gaze(gaze)
    mood, auto_emotion = parse_mood(emotion)
    who, person_from_voice = parse_person(person)
    controls = Controls(
        emotion=mood,
        auto_emotion=auto_emotion,
        person_from_voice=person_from_voice,
        intensity=intensity,
        pose=parse_pose(pose),
        gaze=gaze_at,
        gaze_mode=gaze_mode,
        blink_rate=blink_rate,
        idle=idle,
        person=who,
        background=parse_background(background) if background else Background(),
        framing=parse_framing(framing),
        mirror=mirror,
    )
    config = LiveConfig(mic, camera, monitor, backend, controls, fps=_frame_rate(fps))
    engine = LiveEngine(open_avatar(avatar or default_avatar()), config)
    with _Interrupts() as interrupts:
        engine.start()
        try:
            if record is not None:
                engine.start_recording(record)
            _watch(engine, seconds, interrupts)
        finally:
            engine.stop()
            if report is not None:
                _write_report(report, engine.report())
    _say_how_it_went(engine, record)
    return 0


class _Interrupts:
    """Ctrl-C and a polite kill end the session in order instead of in the middle of something; a second Ctrl-C does not
    wait.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "_Interrupts":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _watch(engine: LiveEngine, seconds: float | None, interrupts: _Interrupts) -> None:
    """One quiet line, and a sentence for everything a person should know, until it is time to stop."""
    out = Console(stderr=True)
    told = -1.0
    began_s = time.perf_counter()
    with Status("loading the avatar", console=out) as line:
        while not interrupts.asked and engine.failure is None:
            if seconds is not None and time.perf_counter() - began_s >= seconds:
                return
            now = engine.statistics()
            fresh = [event for event in now.events if event.at_s > told]
            for event in fresh:
                out.print(f"{event.kind}: {event.text}", style="dim", markup=False, highlight=False, soft_wrap=True)
                told = max(told, event.at_s)
            line.update(_line(now))
            time.sleep(LOOK_EVERY_S)


def _line(now: Statistics) -> Text:
    """What the person sees while speaking: the most important first, for narrow terminals cut it off."""
    if not now.frames:
        return Text("loading the avatar")
    states = {"off": "no microphone", "lost": "microphone lost", "silent": "microphone sends only zeros"}
    heard = states.get(now.microphone_status, f"{LEVELS[min(7, int(8 * now.level**0.5))]} {now.microphone}")
    camera = "waiting for the camera" if not now.camera_ok else "" if now.camera == "none" else now.camera
    parts = [
        f"{now.fps:.0f} fps",
        f"{now.latency_p50_ms:.0f}/{now.latency_p95_ms:.0f} ms",
        f"late {100 * now.late / now.frames:.1f}%",
        f"recording {now.recording_s:.0f} s" if now.recording else "",
        heard,
        camera,
        f"{now.rss_mb:.0f} MB",
        "Ctrl-C ends",
    ]
    return Text("  ".join(filter(None, parts)), no_wrap=True, overflow="ellipsis")


def _say_how_it_went(engine: LiveEngine, record: Path | None) -> None:
    now = engine.statistics()
    if engine.failure is not None:
        if engine.failure.details and os.environ.get("MOUTHPIECE_DEBUG"):
            print(engine.failure.details, file=sys.stderr)
        raise MouthpieceError(f"the face stopped: {engine.failure} (MOUTHPIECE_DEBUG=1 shows where)")
    if record is not None and now.recording_failure:
        raise OutputError(now.recording_failure)
    print(
        f"{now.frames} frames in {now.seconds:.1f} s, {now.late} late; voice to frame "
        f"{now.latency_p50_ms:.0f} ms, 95% under {now.latency_p95_ms:.0f} ms"
        + (f"; film in {record}" if record else "")
    )


def _frame_rate(fps: float) -> Fraction:
    if not 1 <= fps <= 30:
        raise ControlError(
            f"--fps {fps:g} is out of range: frames are drawn at 30 a second, the camera can take 1 to 30"
        )
    return Fraction(fps).limit_denominator(1001)


def _check_output(report: Path | None) -> None:
    if report is not None and not report.resolve().parent.is_dir():
        raise OutputError(f"folder {report.parent} for the report does not exist; make it first")


def _write_report(path: Path, figures: dict[str, Any]) -> None:
    unfinished = path.with_name(f".{path.name}.partial")
    try:
        unfinished.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise OutputError(f"the report {path} cannot be written ({error.strerror or error})") from None
