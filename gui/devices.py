"""The devices and the back end, by name. Like every panel it shows a View and emits `changed(dict)`."""

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton

from gui.panels import Panel
from gui.state import View


class DevicesPanel(Panel):
    """Microphone, monitor, camera and back end, each by name; a lost device stays listed as missing."""

    refresh = pyqtSignal()

    def __init__(self) -> None:
        super().__init__("DEVICES")
        self.boxes: dict[str, QComboBox] = {}
        grid = QGridLayout()
        for row, (field, name) in enumerate(
            (("mic", "Microphone"), ("monitor", "Monitor"), ("camera", "Camera"), ("backend", "Engine"))
        ):
            box = QComboBox()
            box.setAccessibleName(name)
            box.setMinimumContentsLength(14)
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.activated.connect(lambda i, f=field: self.changed.emit({f: self.boxes[f].itemData(i)}))
            grid.addWidget(QLabel(name), row, 0)
            grid.addWidget(box, row, 1)
            self.boxes[field] = box
        grid.setColumnStretch(1, 1)
        self.column.addLayout(grid)
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
    def _choose(box: QComboBox, value: object) -> None:
        if value is None:
            return
        index = box.findData(value)
        if index < 0:
            box.addItem(f"{value} (missing)", value)
            index = box.count() - 1
        box.setCurrentIndex(index)

    def show_view(self, view: View) -> None:
        for field, box in self.boxes.items():
            if box.currentData() != getattr(view.intent, field) and not box.hasFocus():
                self._choose(box, getattr(view.intent, field))
