"""`python -m gui.bench`: runs the app with a file as the microphone and measures what a person would feel.

A heartbeat in the event loop finds stalls of the window; the engine's own report gives frame rate, latency and memory. The
first frame is counted from the start of the process; the processor time until then says more on a busy machine.
"""

import json
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import tyro
from PyQt6.QtCore import Qt, QTimer
from PyQt6.QtWidgets import QApplication

from engine import MouthpieceError, default_avatar, open_avatar
from engine.start import SAMPLE
from gui.app import leave_if_stuck
from gui.bridge import Bridge
from gui.settings import Settings
from gui.window import Window

BEAT_MS = 10
WARM_S = 5.0
STALL_MS = 50.0
MOST_STALLS_TOLD = 20


@dataclass(frozen=True)
class Arguments:
    """Measures the desktop app: stalls of the event loop, preview and camera frame rate, memory.

    Example: xvfb-run -a python -m gui.bench --seconds 600 --report gui.json
    """

    seconds: float = 60.0
    """How long to measure, after five seconds of warming up."""
    mic: Path = SAMPLE
    """Speech that plays in the microphone's place."""
    camera: str = "none"
    """Virtual camera to send to; `none` only paces and counts."""
    avatar: Path | None = None
    """An avatar pack; the bundled one if not given."""
    report: Path | None = None
    """Write the figures here as JSON too."""
    screenshot: Path | None = None
    """Save a picture of the window halfway."""
    theme: str = "dark"
    size: str = "1280x800"


class Heartbeat:
    """Beats in the event loop: when the first frame was painted, and how long the loop was held up."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._last_s = self.began_s = 0.0
        self._painted = 0
        self.first_frame: dict[str, float] = {}
        self.gaps_ms: list[float] = []
        self.stalls: list[tuple[float, float]] = []  # s after the beginning, ms
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(self._beat)
        self.timer.start(BEAT_MS)

    def begin(self) -> None:
        self.began_s = self._last_s = time.perf_counter()
        self._painted = self._window.preview.painted

    def _beat(self) -> None:
        now_s = time.perf_counter()
        if not self.first_frame and self._window.preview.painted:
            times = psutil.Process().cpu_times()
            wall_s = time.time() - psutil.Process().create_time()
            self.first_frame = {"wall_s": round(wall_s, 2), "cpu_s": round(times.user + times.system, 2)}
        if self.began_s:
            gap_ms = 1000 * (now_s - self._last_s)
            self.gaps_ms.append(gap_ms)
            if gap_ms > STALL_MS:
                self.stalls.append((round(now_s - self.began_s, 2), round(gap_ms, 1)))
        self._last_s = now_s

    def figures(self, bridge: Bridge) -> dict[str, object]:
        seconds = time.perf_counter() - self.began_s
        gaps = np.array(self.gaps_ms or [0.0])
        engine = bridge._engine
        report = engine.report() if engine is not None else {}
        return {
            "first_frame": self.first_frame,
            "seconds": round(seconds, 1),
            "event_loop_gap_ms": {f"p{q}": round(float(np.percentile(gaps, q)), 2) for q in (50, 95, 99)},
            "event_loop_gap_max_ms": round(float(gaps.max()), 2),
            "stalls_over_50_ms": len(self.stalls),
            "stalls": self.stalls[:MOST_STALLS_TOLD],
            "preview_fps": round((self._window.preview.painted - self._painted) / seconds, 2),
            "camera_fps": report.get("fps"),
            "memory_mb": report.get("rss_mb"),
            "engine": report,
        }


def write_report(path: Path, text: str) -> None:
    """In one step; a disk that is full costs the file, not the figures on the screen."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        print(f"error: {path} could not be written: {error.strerror or error}", file=sys.stderr)


def main() -> int:
    """Prints the figures as JSON; returns the exit status."""
    arguments = tyro.cli(Arguments, prog="python -m gui.bench")
    app = QApplication(sys.argv[:1])
    try:
        avatar = open_avatar(arguments.avatar or default_avatar())
    except MouthpieceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    bridge = Bridge(Settings(theme=arguments.theme, first_run_done=True))
    bridge.intent = replace(
        bridge.intent, mic=str(arguments.mic), camera=arguments.camera, on_air=arguments.camera != "none"
    )
    window = Window(bridge)
    width, height = (int(v) for v in arguments.size.split("x"))
    window.resize(width, height)
    window.show()
    bridge.open(avatar)
    bridge.look_for_devices(anew=False)
    heart = Heartbeat(window)

    def end() -> None:
        text = json.dumps(heart.figures(bridge), indent=1)
        print(text)
        if arguments.report:
            write_report(arguments.report, text)
        window.close()
        app.quit()

    QTimer.singleShot(int(1000 * WARM_S), heart.begin)
    if arguments.screenshot is not None:
        shot = arguments.screenshot
        QTimer.singleShot(int(1000 * (WARM_S + arguments.seconds / 2)), lambda: window.grab().save(str(shot)))
    QTimer.singleShot(int(1000 * (WARM_S + arguments.seconds)), end)
    status = app.exec()
    leave_if_stuck(bridge, status)
    return status


if __name__ == "__main__":
    sys.exit(main())
