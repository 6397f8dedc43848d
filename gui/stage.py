"""The left of the window: the face, whether the camera shows it, what is heard, and the buttons."""

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QHBoxLayout, QLabel, QMenu, QPushButton, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from gui.meter import LevelMeter
from gui.preview import Preview, Pull
from gui.state import View

APPEARANCES = (("As the system", "system"), ("Light", "light"), ("Dark", "dark"))


class Stage(QWidget):
    """Shows Views; what the person does here goes out as `changed` or as a button's own signal."""

    changed = pyqtSignal(dict)
    themed = pyqtSignal(str)

    def __init__(self, pull: Pull) -> None:
        super().__init__()
        self.preview = Preview(pull)
        self.notice = QLabel()
        self.notice.setObjectName("notice")
        self.notice.setWordWrap(True)
        self.notice.hide()
        self.health = QToolButton()
        self.health.setObjectName("health")
        self.health.setToolTip("Click for plots and a log")
        self.health.setAccessibleName("Health: frames a second, latency, CPU")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(10)
        column.addLayout(self._top())
        column.addWidget(self.preview, 1)
        column.addWidget(self.notice)
        column.addLayout(self._buttons())
        column.addWidget(self.health)

    def _top(self) -> QHBoxLayout:
        self.badge = QLabel()
        self.badge.setObjectName("badge")
        self.badge.setAccessibleName("State of the camera")
        self.meter = LevelMeter()
        self.mute = QToolButton()
        self.mute.setText("Mute")
        self.mute.setCheckable(True)
        self.mute.setToolTip("Mute: the face stops speaking (Ctrl+M)")
        self.mute.clicked.connect(lambda on: self.changed.emit({"muted": on}))
        row = QHBoxLayout()
        row.addWidget(self.badge)
        row.addStretch(1)
        row.addWidget(self.meter, 1)
        row.addWidget(self.mute)
        return row

    def _buttons(self) -> QHBoxLayout:
        self.camera = QPushButton("Start camera")
        self.camera.setObjectName("primary")
        self.record = QPushButton("Record")
        self.snapshot = QPushButton("Snapshot")
        self.speak = QPushButton("Speak a file")
        row = QHBoxLayout()
        for button in (self.camera, self.record, self.snapshot, self.speak):
            button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)  # words are never cut
            row.addWidget(button)
        row.addStretch(1)
        row.addWidget(self._more())
        return row

    def _more(self) -> QToolButton:
        self.more = QToolButton()
        self.more.setText("More")
        self.more.setObjectName("more")
        self.more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self.more)
        self.import_avatar = menu.addAction("Import avatar")
        self.new_avatar = menu.addAction("New avatar from my video")
        self.outside = menu.addAction("Knobs from outside (OSC, MIDI)")
        self.check = menu.addAction("Check everything")
        self.open_health = menu.addAction("Health")
        looks = menu.addMenu("Appearance")
        for words, choice in APPEARANCES:
            action = looks.addAction(words) if looks is not None else None
            if action is not None:
                action.triggered.connect(lambda _checked, c=choice: self.themed.emit(c))
        self.more.setMenu(menu)
        return self.more

    def show_view(self, view: View) -> None:
        """Shows everything that `view` says about this side."""
        self.badge.setText(view.badge)
        mark(self.badge, view.live)
        mark(self.camera, view.live)
        self.camera.setText(view.camera_button)
        self.record.setText(view.record_button)
        mark(self.record, bool(view.intent.recording))
        self.mute.setChecked(view.muted)
        self.mute.setText("Muted" if view.muted else "Mute")
        self.meter.show_level(view.level, view.clipping, view.muted)
        self.preview.mirror = view.intent.mirror
        self.health.setText(view.health)
        if view.notices:
            self.notice.setText("\n".join(view.notices))
        self.notice.setVisible(bool(view.notices))


def mark(widget: QWidget, live: bool) -> None:
    """Dresses `widget` as the style sheet wants it on air, or not."""
    if widget.property("live") != live:
        widget.setProperty("live", live)
        style = widget.style()
        if style is not None:
            style.unpolish(widget)
            style.polish(widget)
