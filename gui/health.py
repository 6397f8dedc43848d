"""The health window: plots of the last two minutes, and a log that can be saved for a bug report without any audio in it."""

from pathlib import Path

import pyqtgraph as pg
from PyQt6.QtWidgets import QDialog, QFileDialog, QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from gui.journal import Journal
from gui.theme import Colours


class HealthWindow(QDialog):
    """Frame rate, latency and CPU over two minutes, and the log."""

    def __init__(self, journal: Journal, version: str, colours: Colours, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Health")
        self.resize(760, 560)
        self._journal, self._version = journal, version
        column = QVBoxLayout(self)
        self._curves: dict[str, pg.PlotDataItem] = {}
        for field, title in (
            ("fps", "Frames a second"),
            ("latency_p95_ms", "Microphone to frame, p95 (ms)"),
            ("cpu_percent", "CPU (%)"),
        ):
            plot = pg.PlotWidget(background=colours.panel)
            plot.setTitle(title, color=colours.text, size="10pt")
            plot.setMouseEnabled(False, False)
            plot.hideButtons()
            plot.setAccessibleName(title)
            self._curves[field] = plot.plot(pen=pg.mkPen(colours.accent, width=2))
            column.addWidget(plot, 1)
        self._log = QPlainTextEdit()
        self._log.setReadOnly(True)
        self._log.setAccessibleName("Log")
        column.addWidget(self._log, 1)
        row = QHBoxLayout()
        row.addWidget(QLabel("The log holds events and figures, no sound and no pictures."))
        row.addStretch(1)
        save = QPushButton("Save log")
        save.clicked.connect(self._save)
        row.addWidget(save)
        column.addLayout(row)
        self.refresh()

    def refresh(self) -> None:
        """Draws what the journal holds now; called twice a second while the window is open."""
        figures = list(self._journal.figures)
        at = [(i - len(figures) + 1) / 2 for i in range(len(figures))]
        for field, curve in self._curves.items():
            curve.setData(at, [float(getattr(r, field)) for r in figures])
        text = "\n".join(self._journal.events)
        if text != self._log.toPlainText():
            self._log.setPlainText(text)

    def _save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save log", "mouthpiece-log.txt", "Text (*.txt)")
        if path:
            try:
                Path(path).write_text(self._journal.text(self._version), encoding="utf-8")
            except OSError as error:
                self._journal.note(f"the log could not be saved to {path}: {error.strerror or error}")
                self.refresh()
