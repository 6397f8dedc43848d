"""The devices, the picture's size and the back end, by name. Like every panel it shows a View and emits `changed(dict)`."""

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout

from gui.panels import Panel
from gui.plans import GRAPHS
from gui.state import QUALITIES, Preparing, View
from gui.widgets import Choice

_NAMES = {
    "mic": "Microphone", "monitor": "Monitor", "camera": "Camera", "quality": "Picture", "backend": "Engine",
}  # fmt: skip
_QUALITY_WORDS = {"light": "Light", "hd": "HD", "full-hd": "Full HD"}
_GRAPH_WORDS = dict(zip(GRAPHS, ("Hearing", "Face")))
DONE = 1000


class DevicesPanel(Panel):
    """Microphone, monitor, camera, picture and back end; a lost device stays listed as missing."""

    refresh = pyqtSignal()
    stopped = pyqtSignal()

    def __init__(self) -> None:
        super().__init__("DEVICES")
        self.boxes: dict[str, Choice] = {}
        grid = QGridLayout()
        for row, (field, name) in enumerate(_NAMES.items()):
            box = Choice(name)
            box.activated.connect(lambda i, f=field: self.changed.emit({f: self.boxes[f].itemData(i)}))
            grid.addWidget(QLabel(name), row, 0)
            grid.addWidget(box, row, 1)
            self.boxes[field] = box
        for name, (width, height) in QUALITIES.items():
            self.boxes["quality"].addItem(f"{_QUALITY_WORDS[name]}, {width} × {height}", name)
        grid.setColumnStretch(1, 1)
        self.column.addLayout(grid)
        self.preparing = PreparingBox()
        self.preparing.stop.clicked.connect(self.stopped.emit)
        self.column.addWidget(self.preparing)
        again = QPushButton("Look for devices again")
        again.clicked.connect(self.refresh.emit)
        self.column.addWidget(again)

    def show_devices(self, choices: dict[str, list[tuple[str, str]]]) -> None:
        """`choices[field]`: (words, value) in order; what is chosen now stays chosen."""
        for field, items in choices.items():
            box = self.boxes[field]
            chosen = box.currentData()
            box.clear()
            for words, value in items:
                box.addItem(words, value)
            self._choose(box, chosen)

    @staticmethod
    def _choose(box: Choice, value: object) -> None:
        if value is None:
            return
        index = box.findData(value)
        if index < 0:
            box.addItem(f"{value} (missing)", value)
            index = box.count() - 1
        box.setCurrentIndex(index)

    def show_view(self, view: View) -> None:
        for field, box in self.boxes.items():
            popup = box.view()
            choosing = popup is not None and popup.isVisible()
            if box.currentData() != getattr(view.intent, field) and not choosing:
                self._choose(box, getattr(view.intent, field))
        self.preparing.show_preparing(view.preparing)


class PreparingBox(QFrame):
    """How far a back end is that is made ready while the face goes on; there only as long as that lasts."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("inset")
        heading = QLabel("Preparing TensorRT for this computer")
        self.phase = QLabel()
        self.phase.setProperty("quiet", True)
        self.phase.setTextFormat(Qt.TextFormat.PlainText)
        self.bars: dict[str, QProgressBar] = {}
        grid = QGridLayout()
        for row, (graph, words) in enumerate(_GRAPH_WORDS.items()):
            bar = QProgressBar()
            bar.setRange(0, DONE)
            bar.setTextVisible(False)
            bar.setAccessibleName(f"Preparing TensorRT: {words}")
            grid.addWidget(QLabel(words), row, 0)
            grid.addWidget(bar, row, 1)
            self.bars[graph] = bar
        grid.setColumnStretch(1, 1)
        self.stop = QPushButton("Cancel")
        self.stop.setAccessibleName("Cancel preparing TensorRT")
        below = QHBoxLayout()
        below.addWidget(self.phase, 1)
        below.addWidget(self.stop)
        column = QVBoxLayout(self)
        column.addWidget(heading)
        column.addLayout(grid)
        column.addLayout(below)
        self.hide()

    def show_preparing(self, preparing: Preparing | None) -> None:
        """Shows the shares and the phase; nothing at all for None."""
        if preparing is not None:
            for graph, share in preparing.shares:
                self.bars[graph].setValue(round(share * DONE))
            words = "Stopping" if preparing.stopping else preparing.phase or "This takes some minutes, once."
            self.phase.setText(self.fontMetrics().elidedText(words, Qt.TextElideMode.ElideRight, 200))
            self.stop.setEnabled(not preparing.stopping)
        self.setVisible(preparing is not None)
