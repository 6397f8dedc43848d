"""What happened and how it went, in words and figures: what the health window shows and a bug report carries."""

import platform
import time
from collections import deque

from gui.state import Report

HISTORY = 240


class Journal:
    """Events in words and half-second figures, bounded; never a sample of sound."""

    def __init__(self, clock: object = time.time) -> None:
        self._clock = clock
        self.events: deque[str] = deque(maxlen=500)
        self.figures: deque[Report] = deque(maxlen=HISTORY)

    def note(self, words: str) -> None:
        stamp = time.strftime("%H:%M:%S", time.localtime(self._clock()))  # type: ignore[operator]
        self.events.append(f"{stamp}  {words}")

    def record(self, report: Report) -> None:
        self.figures.append(report)

    def text(self, version: str) -> str:
        """The log as one text: the machine, the last figures, the events."""
        last = self.figures[-1] if self.figures else Report()
        lines = [
            f"Mouthpiece {version}; Python {platform.python_version()}; {platform.platform()}; {platform.machine()}",
            f"back end {last.backend or 'none'}; fps {last.fps:.2f}; "
            f"latency p50/p95 {last.latency_p50_ms:.1f}/{last.latency_p95_ms:.1f} ms; "
            f"frames {last.frames}; late {last.late}; dropped {last.dropped}; CPU {last.cpu_percent:.0f} %; memory {last.rss_mb:.0f} MB",
            "",
            *self.events,
        ]
        return "\n".join(lines) + "\n"
