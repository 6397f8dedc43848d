"""How loud the microphone is."""

import math

from PyQt6.QtCore import QRectF, Qt, QTimer
from PyQt6.QtGui import QColor, QPainter, QPaintEvent
from PyQt6.QtWidgets import QWidget

from gui.theme import DARK, Colours

METER_MS = 60
CLIP_SHOWN_MS = 1500


class LevelMeter(QWidget):
    """The microphone's level on a decibel scale, red for a moment when it clips; grey when muted."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Microphone level")
        self.setToolTip("What the microphone hears; red when it is too loud")
        self.setFixedHeight(8)
        self.setMinimumWidth(120)
        self.colours: Colours = DARK
        self._share, self._clipping, self._muted = 0.0, False, False
        self._goal = 0.0
        self._clipped = QTimer(self)
        self._clipped.setSingleShot(True)
        self._fall = QTimer(self)  # nobody calls again when a microphone falls silent for good
        self._fall.setInterval(METER_MS)
        self._fall.timeout.connect(self._sink)

    def show_level(self, level: float, clipping: bool, muted: bool) -> None:
        """`level` 0..1 full scale; drawn from -60 dB to 0 dB, falling slowly; what clips shows for a moment longer."""
        if clipping:
            self._clipped.start(CLIP_SHOWN_MS)
        clipping = self._clipped.isActive() and not muted
        self._goal = max(0.0, 1 + math.log10(max(level, 1e-6)) / 3)
        self._show(self._goal, clipping, muted)

    def _sink(self) -> None:
        self._show(self._goal, self._clipped.isActive() and not self._muted, self._muted)

    def _show(self, goal: float, clipping: bool, muted: bool) -> None:
        share = max(goal, self._share - 0.04)
        if share > goal and not self._fall.isActive():
            self._fall.start()
        elif share <= goal:
            self._fall.stop()
        if (round(share, 3), clipping, muted) != (round(self._share, 3), self._clipping, self._muted):
            if (clipping, muted) != (self._clipping, self._muted):
                self.setAccessibleDescription("muted" if muted else "too loud" if clipping else "")
            self._share, self._clipping, self._muted = share, clipping, muted
            self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        p = QPainter(self)
        p.setRenderHint(QPainter.RenderHint.Antialiasing)
        p.setPen(Qt.PenStyle.NoPen)
        p.setBrush(QColor(self.colours.line))
        p.drawRoundedRect(QRectF(self.rect()), 4, 4)
        if self._share > 0.01 and not self._muted:
            p.setBrush(QColor(self.colours.alert if self._clipping else self.colours.good))
            p.drawRoundedRect(QRectF(0, 0, self.width() * min(1.0, self._share), self.height()), 4, 4)
