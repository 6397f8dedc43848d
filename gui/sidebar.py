"""The right of the window: three pages of controls."""

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QScrollArea, QTabWidget, QVBoxLayout, QWidget

from gui.devices import DevicesPanel
from gui.panels import MoodPanel, Panel, PeoplePanel, PosePanel, ScenePanel
from gui.presets import PresetPanel
from gui.state import View
from gui.widgets import scrolling

WIDTH = 372


class Sidebar(QTabWidget):
    """Shows Views; every setting that the person changes goes out as `changed`."""

    changed = pyqtSignal(dict)

    def __init__(self) -> None:
        super().__init__()
        self.people, self.mood, self.pose = PeoplePanel(), MoodPanel(), PosePanel()
        self.scene, self.devices, self.presets = ScenePanel(), DevicesPanel(), PresetPanel()
        self._panels: tuple[Panel, ...] = (self.people, self.mood, self.pose, self.scene, self.devices)
        self.setFixedWidth(WIDTH)
        self.setDocumentMode(True)
        self.setAccessibleName("Controls")
        bar = self.tabBar()
        if bar is not None:
            bar.setDrawBase(False)
            bar.setAccessibleName("Pages of controls")
        for name, parts in (
            ("Face", (self.people, self.mood)),
            ("Motion", (self.pose, self.presets)),
            ("Scene and devices", (self.scene, self.devices)),
        ):
            page = _column(*parts)
            page.setAccessibleName(name)
            self.addTab(page, name)
        for panel in self._panels:
            panel.changed.connect(self.changed.emit)

    def show_view(self, view: View) -> None:
        """Shows the settings of `view`."""
        for panel in self._panels:
            panel.show_view(view)


def _column(*parts: QWidget) -> QScrollArea:
    inside = QWidget()
    inside.setObjectName("column")
    layout = QVBoxLayout(inside)
    layout.setContentsMargins(2, 8, 4, 2)
    layout.setSpacing(10)
    for part in parts:
        layout.addWidget(part)
    layout.addStretch(1)
    return scrolling(inside)
