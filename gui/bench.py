"""`python -m gui.bench`: runs the app with a file as the microphone and measures what a person would feel.

A heartbeat in the event loop finds stalls of the window; the engine's own report gives frame rate, latency and memory.
"""

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from PyQt6.QtCore import Qt, QTimer
from PyQt6.QtWidgets import QApplication

from engine import MouthpieceError, default_avatar, open_avatar
from engine.start import SAMPLE
from gui.bridge import Bridge
from gui.settings import Settings
from gui.window import Window

BEAT_MS = 10
WARM_S = 5.0


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


def _summary(gaps_ms: list[float], painted: int, seconds: float, bridge: Bridge) -> dict[str, object]:
    gaps = np.array(gaps_ms or [0.0])
    engine = bridge._engine
    return {
        "seconds": round(seconds, 1),
        "event_loop_gap_ms": {f"p{q}": round(float(np.percentile(gaps, q)), 2) for q in (50, 95, 99)},
        "event_loop_gap_max_ms": round(float(gaps.max()), 2),
        "stalls_over_50_ms": int((gaps > 50).sum()),
        "preview_fps": round(painted / seconds, 2),
        "engine": engine.report() if engine is not None else {},
    }


def main() -> int:
    """Prints the figures as JSON; returns the exit status."""
    arguments = tyro.cli(Arguments, prog="python -m gui.bench")
    app = QApplication(sys.argv[:1])
    try:
        avatar = open_avatar(arguments.avatar or default_avatar())
    except MouthpieceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    started = time.perf_counter()
    bridge = Bridge(Settings(theme=arguments.theme, first_run_done=True))
    bridge.intent = replace(
        bridge.intent, mic=str(arguments.mic), camera=arguments.camera, on_air=arguments.camera != "none"
    )
    window = Window(bridge)
    width, height = (int(v) for v in arguments.size.split("x"))
    window.resize(width, height)
    window.show()
    bridge.open(avatar)
    bridge.look_for_devices()
    first_frame_s = [0.0]
    gaps: list[float] = []
    state = {"last": 0.0, "painted": 0, "begun": 0.0}

    def beat() -> None:
        now = time.perf_counter()
        if not first_frame_s[0] and window.preview.painted:
            first_frame_s[0] = now - started
        if state["begun"]:
            gaps.append(1000 * (now - state["last"]))
        state["last"] = now

    def begin() -> None:
        state.update(begun=time.perf_counter(), painted=window.preview.painted)

    def end() -> None:
        seconds = time.perf_counter() - state["begun"]
        figures = {"first_frame_s": round(first_frame_s[0], 2)}
        figures |= _summary(gaps, window.preview.painted - int(state["painted"]), seconds, bridge)  # type: ignore[arg-type]
        print(json.dumps(figures, indent=1))
        if arguments.report:
            arguments.report.write_text(json.dumps(figures, indent=1), encoding="utf-8")
        window.close()
        app.quit()

    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(beat)
    timer.start(BEAT_MS)
    QTimer.singleShot(int(1000 * WARM_S), begin)
    if arguments.screenshot is not None:
        shot = arguments.screenshot
        QTimer.singleShot(int(1000 * (WARM_S + arguments.seconds / 2)), lambda: window.grab().save(str(shot)))
    QTimer.singleShot(int(1000 * (WARM_S + arguments.seconds)), end)
    return app.exec()


if __name__ == "__main__":
    sys.exit(main())
