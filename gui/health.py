"""The health window: plots of the last two minutes, and a log that can be saved for a bug report without any audio in it."""

from collections.abc import Sequence
from pathlib import Path

import pyqtgraph as pg
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QDialog, QFileDialog, QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from gui.journal import Journal
from gui.state import Report
from gui.theme import Colours

AXIS_PX = 48  # the same for all, so that their times stand below each other
PLOTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Frames a second", ("fps",)),
    ("Microphone to frame, ms: half are faster than the solid line, all but 5 % than the dotted", ("latency_p50_ms", "latency_p95_ms")),
    ("Late frames, per half second", ("late",)),
    ("Processor, % (over the last two minutes, in seconds)", ("cpu_percent",)),
)  # fmt: skip


def series(figures: Sequence[Report], field: str) -> list[float]:
    """One figure of each half second; late frames are those that came since the one before."""
    values = [float(getattr(report, field)) for report in figures]
    if field == "late":
        return [max(0.0, now - before) for before, now in zip(values[:1] + values, values)]
    return values


class HealthWindow(QDialog):
    """Frame rate, latency, late frames and processor over two minutes, and the log."""

    def __init__(self, journal: Journal, version: str, colours: Colours, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Health")
        self.resize(760, 720)
        self._journal, self._version = journal, version
        column = QVBoxLayout(self)
        column.setContentsMargins(22, 18, 22, 18)
        column.setSpacing(10)
        title = QLabel("Health")
        title.setObjectName("title")
        column.addWidget(title)
        self._curves: dict[str, pg.PlotDataItem] = {}
        for words, fields in PLOTS:
            column.addWidget(self._plot(words, fields, colours), 1)
        self._log = QPlainTextEdit()
        self._log.setReadOnly(True)
        self._log.setAccessibleName("Log")
        column.addWidget(self._log, 1)
        row = QHBoxLayout()
        self._words = QLabel("The log holds events and figures, no sound and no pictures.")
        self._words.setProperty("quiet", True)
        row.addWidget(self._words, 1)
        save = QPushButton("Save log")
        save.clicked.connect(self._save)
        row.addWidget(save)
        column.addLayout(row)
        self.refresh()

    def _plot(self, words: str, fields: tuple[str, ...], colours: Colours) -> pg.PlotWidget:
        plot = pg.PlotWidget(background=colours.panel)
        plot.setTitle(words, color=colours.text, size="9pt")
        plot.setMouseEnabled(False, False)
        plot.setMenuEnabled(False)
        plot.hideButtons()
        plot.setAccessibleName(words)
        plot.setLimits(yMin=0)
        plot.enableAutoRange(axis="y")
        plot.setXRange(-120, 0, padding=0.01)
        for side in ("left", "bottom"):
            axis = plot.getAxis(side)
            axis.setPen(colours.line)
            axis.setTextPen(colours.quiet)
        plot.getAxis("left").setWidth(AXIS_PX)
        for field, line in zip(fields, (Qt.PenStyle.SolidLine, Qt.PenStyle.DotLine)):
            self._curves[field] = plot.plot(pen=pg.mkPen(colours.accent, width=2, style=line))
        return plot

    def refresh(self) -> None:
        """Draws what the journal holds now; called ten times a second at most while the window is open."""
        figures = list(self._journal.figures)
        at = [(i - len(figures) + 1) / 2 for i in range(len(figures))]
        for field, curve in self._curves.items():
            curve.setData(at, series(figures, field))
        text = "\n".join(self._journal.events)
        if text != self._log.toPlainText():
            self._log.setPlainText(text)

    def _save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save log", str(Path.home() / "mouthpiece-log.txt"), "Text (*.txt)")
        if path:
            self._words.setText(self.write(path) or f"Saved to {path}.")

    def write(self, path: str) -> str:
        """Writes the log; returns an empty string, or what went wrong in one line."""
        try:
            Path(path).write_text(self._journal.text(self._version), encoding="utf-8")
        except OSError as error:
            return f"The log could not be saved to {path}: {error.strerror or error}."
        return ""
