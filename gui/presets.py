"""Saved looks: a list with a name and a key; choosing one recalls it."""

from collections.abc import Sequence

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtGui import QKeySequence, QShortcut
from PyQt6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHBoxLayout,
    QKeySequenceEdit,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from gui.settings import Preset
from gui.widgets import panel


class PresetPanel(QWidget):
    """One row a preset: its name, its key, a cross to forget it."""

    saved = pyqtSignal(str, str)
    recalled = pyqtSignal(str)
    deleted = pyqtSignal(str)
    everywhere_wished = pyqtSignal(bool)

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
        self.everywhere = QCheckBox("Keys work in every window")
        self.everywhere.toggled.connect(self.everywhere_wished.emit)
        self.column.addWidget(self.everywhere)
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

    def show_everywhere(self, on: bool, obstacle: str) -> None:
        """Whether the keys are taken from every window; `obstacle`: why they cannot be, or an empty string."""
        self.everywhere.setEnabled(not obstacle)
        self.everywhere.setToolTip(
            obstacle or "These keys, and Ctrl+Alt+M for Mute, then belong to Mouthpiece whatever window has the focus"
        )
        self.everywhere.blockSignals(True)
        self.everywhere.setChecked(on and not obstacle)
        self.everywhere.blockSignals(False)

    def _ask(self) -> None:
        used = {preset.hotkey for preset in self._presets}
        page = SavePage(next((k for k in (f"Ctrl+{i}" for i in range(1, 10)) if k not in used), ""), self)
        page.accepted.connect(lambda: self._save(page.name.text(), page.key.keySequence().toString()))
        page.open()

    def _save(self, name: str, hotkey: str) -> None:
        if name.strip():
            self.saved.emit(name.strip()[:60], hotkey)


class SavePage(QDialog):
    """Asks for a look's name and key."""

    def __init__(self, hotkey: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Save this look")
        self.name, self.key = QLineEdit(), QKeySequenceEdit(QKeySequence(hotkey))
        self.name.setMaxLength(60)
        self.name.setAccessibleName("Name of the look")
        self.key.setAccessibleName("Key that recalls it")
        self.key.setMaximumSequenceLength(1)
        self.key.setClearButtonEnabled(True)
        form = QFormLayout(self)
        form.addRow("Name", self.name)
        form.addRow("Key", self.key)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        form.addRow(buttons)
