"""Saved looks: a list with a name and a key; choosing one recalls it."""

from collections.abc import Sequence

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtGui import QKeySequence, QShortcut
from PyQt6.QtWidgets import QHBoxLayout, QInputDialog, QLabel, QPushButton, QVBoxLayout, QWidget

from gui.settings import Preset
from gui.widgets import panel


class PresetPanel(QWidget):
    """One row a preset: its name, its key, a cross to forget it. Keys 1..9 with Ctrl are given in order."""

    saved = pyqtSignal(str, str)
    recalled = pyqtSignal(str)
    deleted = pyqtSignal(str)

    def __init__(self) -> None:
        super().__init__()
        frame, self.column = panel("SAVED LOOKS")
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(frame)
        self._rows = QVBoxLayout()
        self.column.addLayout(self._rows)
        self._empty = QLabel("Save the look of the moment and recall it with a key.")
        self._empty.setProperty("quiet", True)
        self._empty.setWordWrap(True)
        self.column.addWidget(self._empty)
        save = QPushButton("Save this look")
        save.clicked.connect(self._ask)
        self.column.addWidget(save)
        self._presets: list[Preset] = []
        self._shortcuts: list[QShortcut] = []

    def show_presets(self, presets: Sequence[Preset]) -> None:
        self._presets = list(presets)
        while (item := self._rows.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.deleteLater()
        self._shortcuts = []
        for preset in self._presets:
            self._rows.addWidget(self._row(preset))
        self._empty.setVisible(not self._presets)

    def _row(self, preset: Preset) -> QWidget:
        row = QWidget()
        layout = QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        recall = QPushButton(f"{preset.name}    {preset.hotkey}" if preset.hotkey else preset.name)
        recall.setAccessibleName(f"Recall the look {preset.name}")
        recall.clicked.connect(lambda _checked, name=preset.name: self.recalled.emit(name))
        forget = QPushButton("✕")
        forget.setFixedWidth(34)
        forget.setAccessibleName(f"Forget the look {preset.name}")
        forget.clicked.connect(lambda _checked, name=preset.name: self.deleted.emit(name))
        layout.addWidget(recall, 1)
        layout.addWidget(forget)
        if preset.hotkey:
            shortcut = QShortcut(QKeySequence(preset.hotkey), self)
            shortcut.setContext(Qt.ShortcutContext.ApplicationShortcut)
            shortcut.activated.connect(lambda name=preset.name: self.recalled.emit(name))
            self._shortcuts.append(shortcut)
        return row

    def _ask(self) -> None:
        name, good = QInputDialog.getText(self, "Save this look", "Name")
        if good and name.strip():
            used = {preset.hotkey for preset in self._presets}
            free = [f"Ctrl+{i}" for i in range(1, 10) if f"Ctrl+{i}" not in used]
            self.saved.emit(name.strip()[:60], free[0] if free else "")
