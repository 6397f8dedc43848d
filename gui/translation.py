"""What the person wants in the engine's words, and what the engine says in the window's. No thread, no Qt."""

import math
from pathlib import Path
from typing import Any

from engine import Avatar, Background, Controls, Framing
from engine.live import Statistics
from gui.state import Intent, Report


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


def people_of(avatar: Avatar) -> list[tuple[str, str, str]]:
    """Who may be shown: (name, words about them, preview picture's path)."""
    return [
        (
            name,
            entry.about if isinstance(entry.about, str) else ", ".join(map(str, entry.about.values())),
            str(avatar.path / entry.preview),
        )
        for name, entry in avatar.manifest.people.items()
    ]
