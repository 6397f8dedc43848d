"""How a live session starts, and what can be seen of it from outside."""

from dataclasses import dataclass, field
from fractions import Fraction

from engine.controls import Controls
from engine.stats import Event


@dataclass(frozen=True)
class LiveConfig:
    """How a session starts. Devices are (parts of) names: "" is the system's default or the first camera, "none" is
    none.

    microphone: a device, or a sound or video file that plays in its place, again and again. monitor: an output that
    gets the voice as late as the face. Width, height and fps of the camera never change while the engine runs.
    """

    microphone: str = ""
    camera: str = "none"
    monitor: str = "none"
    backend: str = "auto"
    controls: Controls = field(default_factory=Controls)
    muted: bool = False
    width: int = 1280
    height: int = 720
    fps: Fraction = Fraction(30)


@dataclass(frozen=True)
class Statistics:
    """One moment of the engine, for people to look at. Levels 0..1 of full scale, times in s or ms as named."""

    running: bool = False
    failure: str = ""
    seconds: float = 0.0
    microphone: str = ""
    microphone_status: str = "off"  # off | live | lost | silent | file
    microphone_message: str = ""
    microphone_silent_s: float = 0.0  # since a sample other than exactly zero was heard
    level: float = 0.0
    clipping: bool = False
    muted: bool = False
    camera: str = "none"
    camera_ok: bool = True
    camera_message: str = ""
    monitor: str = ""
    monitor_message: str = ""
    fps: float = 0.0
    frames: int = 0
    late: int = 0
    dropped: int = 0
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    video_delay_ms: float = 0.0
    cpu_percent: float = 0.0
    rss_mb: float = 0.0
    backend: str = ""
    person: str = ""
    recording: str = ""
    recording_s: float = 0.0
    recording_failure: str = ""
    events: tuple[Event, ...] = ()
