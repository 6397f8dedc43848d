"""What the person wants and what the engine reports, resolved into what the window shows. Pure: no Qt, no engine, no clock.

Intent (changed by the views, through `bridge`) + Report (pulled from the engine)  --resolve-->  View (read by the views)
"""

import re
from dataclasses import dataclass, field, fields, replace
from typing import Any

EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
MOODS = tuple(name for name in EMOTIONS if name != "neutral")
POSE_LIMITS_DEG = {"yaw": 25.0, "pitch": 15.0, "roll": 15.0}
GAZE_MODES = ("camera", "wander", "pointer")
BACKGROUNDS = ("colour", "image", "blur", "green", "transparent")
QUALITIES = {"light": (640, 360), "hd": (1280, 720), "full-hd": (1920, 1080)}
"""The camera picture's width and height in pixels."""
SILENT_MIC_S = 3.0


@dataclass(frozen=True)
class Intent:
    """Everything the person can set. Angles in degrees, zoom and amounts as factors, emotions 0..1.

    `mic`, `monitor` and `camera` are device names; an empty name is the system's default, `none` switches the part off.
    """

    person: str = ""
    anger: float = 0.0
    disgust: float = 0.0
    fear: float = 0.0
    happy: float = 0.0
    sad: float = 0.0
    intensity: float = 1.0
    auto_emotion: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    gaze: str = "camera"
    gaze_yaw: float = 0.0
    gaze_pitch: float = 0.0
    blink_per_minute: float = 15.0
    idle: float = 1.0
    background: str = "colour"
    colour: str = "#39424e"
    image: str = ""
    zoom: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0
    mirror: bool = True
    muted: bool = False
    mic: str = ""
    monitor: str = "none"
    camera: str = ""
    backend: str = "auto"
    quality: str = "hd"
    on_air: bool = False
    recording: str = ""

    def emotion(self) -> tuple[float, ...]:
        """The six weights in the fixed order, times intensity; neutral takes what is left."""
        moods = {name: max(0.0, getattr(self, name)) for name in MOODS}
        total = sum(moods.values())
        scale = self.intensity / max(1.0, total)
        return tuple(moods[name] * scale if name in moods else 0.0 for name in EMOTIONS)


LOOK_FIELDS = (
    "person", *MOODS, "intensity", "auto_emotion", "yaw", "pitch", "roll", "gaze", "blink_per_minute", "idle",
    "background", "colour", "image", "zoom", "offset_x", "offset_y",
)  # fmt: skip
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys((*MOODS, "intensity", "auto_emotion"), (0.0, 1.0)),
    **{name: (-limit, limit) for name, limit in POSE_LIMITS_DEG.items()},
    "gaze_yaw": (-25.0, 25.0), "gaze_pitch": (-15.0, 15.0), "blink_per_minute": (0.0, 40.0), "idle": (0.0, 2.0),
    "zoom": (0.6, 2.0), "offset_x": (-0.5, 0.5), "offset_y": (-0.5, 0.5),
}  # fmt: skip

WORDS: dict[str, tuple[str, ...]] = {"gaze": GAZE_MODES, "background": BACKGROUNDS, "quality": tuple(QUALITIES)}


def change(intent: Intent, **values: Any) -> Intent:
    """A new intent with `values` set; numbers are clipped to their range, unknown names and words are refused."""
    known = {f.name for f in fields(Intent)}
    clean: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"no such setting: {name!r}; known: {', '.join(sorted(known))}")
        if name in RANGES:
            low, high = RANGES[name]
            number = float(value)
            if number != number:
                raise ValueError(f"{name} must be a number between {low:g} and {high:g}, found nan")
            value = min(high, max(low, number))
        elif name in WORDS and value not in WORDS[name]:
            raise ValueError(f"{name} must be one of {', '.join(WORDS[name])}, found {value!r}")
        clean[name] = value
    return replace(intent, **clean)


def reset(intent: Intent, *names: str) -> Intent:
    """The named settings back at their defaults."""
    plain = Intent()
    return change(intent, **{name: getattr(plain, name) for name in names})


def look_of(intent: Intent) -> dict[str, Any]:
    """What a preset stores: the look, never devices or what is running."""
    return {name: getattr(intent, name) for name in LOOK_FIELDS}


@dataclass(frozen=True)
class Report:
    """What the engine said last. Levels are 0..1 full scale; ages in seconds; latency in milliseconds."""

    alive: bool = False
    failure: str = ""
    mic_name: str = ""
    mic_ok: bool = False
    mic_silent_s: float = 0.0
    camera_name: str = ""
    camera_ok: bool = False
    camera_message: str = ""
    level: float = 0.0
    clipping: bool = False
    fps: float = 0.0
    frames: int = 0
    late: int = 0
    dropped: int = 0
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    cpu_percent: float = 0.0
    rss_mb: float = 0.0
    backend: str = ""
    recording_s: float = 0.0
    recording_failure: str = ""


@dataclass(frozen=True)
class Preparing:
    """A back end being made ready, while another one draws: how much of each graph is done, 0..1, and what is done now."""

    shares: tuple[tuple[str, float], ...]
    phase: str = ""
    stopping: bool = False

    @property
    def share(self) -> float:
        """0..1 over all graphs."""
        return sum(share for _, share in self.shares) / max(1, len(self.shares))


@dataclass(frozen=True)
class View:
    """What the window shows, word by word."""

    live: bool = False
    badge: str = "Preview"
    camera_button: str = "Start camera"
    record_button: str = "Record"
    level: float = 0.0
    clipping: bool = False
    muted: bool = False
    notices: tuple[str, ...] = ()
    health: str = ""
    engine_failed: bool = False
    failure: str = ""
    preparing: Preparing | None = None
    intent: Intent = field(default_factory=Intent)


def for_the_window(words: str) -> str:
    """An engine's advice without what only the command line can do (`; or use --camera none ...`, `, send less (--fps 15),`)."""
    return re.sub(r", [^,;]*\(--[^)]*\)", "", words.split("; or use ")[0])


def _notices(intent: Intent, report: Report) -> tuple[str, ...]:
    lines = []
    if report.alive and not report.mic_ok and intent.mic != "none":
        lines.append(
            f"Microphone lost: {report.mic_name or intent.mic or 'none found'}. The face idles; it goes on by itself when it is back."
        )
    elif report.alive and report.mic_silent_s > SILENT_MIC_S and not intent.muted:
        lines.append("The microphone sends only silence. Is it muted, or is another one meant?")
    if intent.on_air and report.alive and not report.camera_ok:
        reason = report.camera_message.split(": ")[0] or "no virtual camera found"
        lines.append(f"Not on air: {reason}. “More, Check everything” shows how to set one up.")
    if report.recording_failure:
        lines.append(f"Recording stopped: {report.recording_failure}")
    return tuple(lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def health_line(report: Report) -> str:
    """One quiet line: frame rate, latency, late frames, processor, back end."""
    if not report.alive:
        return "engine stopped"
    share = 100 * report.late / report.frames if report.frames else 0.0
    return (
        f"{report.fps:.1f} fps   mic to frame {report.latency_p50_ms:.0f} / {report.latency_p95_ms:.0f} ms   "
        f"late {share:.1f} %   CPU {report.cpu_percent:.0f} %   {report.rss_mb:.0f} MB   {report.backend}"
    )


def resolve(intent: Intent, report: Report, preparing: Preparing | None = None) -> View:
    """What to show for what is wanted, what is reported, and a back end that is made ready meanwhile."""
    live = intent.on_air and report.alive and report.camera_ok
    return View(
        live=live,
        badge="On air" if live else ("Waiting for camera" if intent.on_air else "Preview"),
        camera_button="Stop camera" if intent.on_air else "Start camera",
        record_button=f"Stop  {_clock(report.recording_s)}" if intent.recording else "Record",
        level=0.0 if intent.muted else min(1.0, max(0.0, report.level)),
        clipping=report.clipping and not intent.muted,
        muted=intent.muted,
        notices=_notices(intent, report),
        health=health_line(report) + (f"   preparing TensorRT: {preparing.share:.0%}" if preparing else ""),
        engine_failed=bool(report.failure),
        failure=report.failure,
        preparing=preparing,
        intent=intent,
    )
