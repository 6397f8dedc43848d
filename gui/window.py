"""The main window: the face at the left, the controls at the right, one quiet line below. It shows Views and passes wishes on."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from PyQt6.QtCore import QByteArray, QEvent, QSize, Qt, QTimer
from PyQt6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QImage, QKeySequence, QShortcut
from PyQt6.QtWidgets import (
    QApplication,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMenu,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from gui import hotkeys, theme
from gui.bridge import Bridge
from gui.panels import DevicesPanel, MoodPanel, Panel, PeoplePanel, PosePanel, ScenePanel
from gui.presets import PresetPanel
from gui.preview import Preview
from gui.state import View
from gui.widgets import LevelMeter, Pad

if TYPE_CHECKING:
    from gui.health import HealthWindow

MUTE_EVERYWHERE = "Ctrl+Alt+M"
FRAME_TIMER_MS = 15
"""The preview is asked for twice a frame, so that no picture waits longer than half a frame."""


class Window(QWidget):
    """Everything on one page. `bridge` is the only way to the engine."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.setObjectName("window")
        self.setWindowTitle("Mouthpiece")
        self.setAcceptDrops(True)
        self.setMinimumSize(880, 560)
        self.bridge = bridge
        self.health: HealthWindow | None = None
        self._crash_told = ""
        self._build_left()
        self._build_right()
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 14, 14, 8)
        row.setSpacing(14)
        row.addLayout(self._left, 1)
        row.addWidget(self.tabs)
        self._shortcuts()
        bridge.view_changed.connect(self.show_view)
        bridge.people_changed.connect(self.people.show_people)
        bridge.people_changed.connect(lambda _: self.mood.allow_auto(bridge.hears_emotion))
        bridge.devices_changed.connect(self.devices.show_devices)
        bridge.message.connect(self.tell)
        self.dress()
        self.show_view(bridge.view)
        self.people.show_people(bridge.people)
        self.devices.show_devices(bridge.devices)
        self.mood.allow_auto(bridge.hears_emotion)
        self.presets.show_presets(bridge.settings.presets)
        self._keys: hotkeys.X11Keys | hotkeys.WindowsKeys | None = None
        self._obstacle = hotkeys.obstacle(QApplication.platformName())
        self.take_keys(bridge.settings.keys_everywhere)
        if bridge.settings.geometry:
            self.restoreGeometry(QByteArray.fromBase64(bridge.settings.geometry.encode()))
        self._frames = QTimer(self)
        self._frames.setTimerType(Qt.TimerType.PreciseTimer)
        self._frames.timeout.connect(self.preview.refresh)
        self._frames.start(FRAME_TIMER_MS)

    def sizeHint(self) -> QSize:
        return QSize(1280, 800)

    # --- building
    def _build_left(self) -> None:
        self.preview = Preview(self.bridge.pull_picture)
        self.preview.zoomed.connect(lambda k: self.bridge.act({"zoom": self.bridge.intent.zoom * k}))
        self.preview.dragged.connect(
            lambda dx, dy: self.bridge.act(
                {"offset_x": self.bridge.intent.offset_x + dx, "offset_y": self.bridge.intent.offset_y + dy}
            )
        )
        self.preview.reset.connect(lambda: self.bridge.reset("zoom", "offset_x", "offset_y"))
        self.preview.pointed.connect(self.bridge.point_at)
        self.badge = QLabel()
        self.badge.setObjectName("badge")
        self.badge.setAccessibleName("State of the camera")
        self.meter = LevelMeter()
        self.mute = QToolButton()
        self.mute.setText("Mute")
        self.mute.setCheckable(True)
        self.mute.setToolTip("Mute: the face stops speaking (Ctrl+M)")
        self.mute.clicked.connect(lambda on: self.bridge.act({"muted": on}))
        top = QHBoxLayout()
        top.addWidget(self.badge)
        top.addStretch(1)
        top.addWidget(self.meter, 1)
        top.addWidget(self.mute)
        self.notice = QLabel()
        self.notice.setObjectName("notice")
        self.notice.setWordWrap(True)
        self.notice.hide()
        self.quiet_line = QToolButton()
        self.quiet_line.setObjectName("health")
        self.quiet_line.setToolTip("Click for plots and a log")
        self.quiet_line.setAccessibleName("Health: frames a second, latency, CPU")
        self.quiet_line.clicked.connect(self.open_health)
        self._left = QVBoxLayout()
        self._left.setSpacing(10)
        self._left.addLayout(top)
        self._left.addWidget(self.preview, 1)
        self._left.addWidget(self.notice)
        self._left.addLayout(self._buttons())
        self._left.addWidget(self.quiet_line)

    def _buttons(self) -> QHBoxLayout:
        self.camera = QPushButton("Start camera")
        self.camera.setObjectName("primary")
        self.camera.clicked.connect(self.bridge.toggle_camera)
        self.record = QPushButton("Record")
        self.record.clicked.connect(self.toggle_record)
        self.snapshot = QPushButton("Snapshot")
        self.snapshot.clicked.connect(self.save_snapshot)
        self.speak = QPushButton("Speak a file")
        self.speak.clicked.connect(self.speak_file)
        self.more = QToolButton()
        self.more.setText("More")
        self.more.setObjectName("more")
        self.more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self.more)
        for words, slot in (
            ("Import avatar", self.import_avatar),
            ("New avatar from my video", self.bridge.new_avatar_guide),
            ("Check everything", self.bridge.first_run),
            ("Health", self.open_health),
        ):
            action = menu.addAction(words)
            if action is not None:
                action.triggered.connect(slot)
        looks = menu.addMenu("Appearance")
        for words, choice in (("As the system", "system"), ("Light", "light"), ("Dark", "dark")):
            action = looks.addAction(words) if looks is not None else None
            if action is not None:
                action.triggered.connect(lambda _checked, c=choice: self.set_theme(c))
        self.more.setMenu(menu)
        row = QHBoxLayout()
        for button in (self.camera, self.record, self.snapshot, self.speak):
            row.addWidget(button)
        row.addStretch(1)
        row.addWidget(self.more)
        return row

    def _build_right(self) -> None:
        self.people, self.mood, self.pose = PeoplePanel(), MoodPanel(), PosePanel()
        self.scene, self.devices, self.presets = ScenePanel(), DevicesPanel(), PresetPanel()
        self.tabs = QTabWidget()
        self.tabs.setFixedWidth(372)
        self.tabs.setDocumentMode(True)
        bar = self.tabs.tabBar()
        if bar is not None:
            bar.setDrawBase(False)
        for name, parts in (
            ("Face", (self.people, self.mood)),
            ("Motion", (self.pose, self.presets)),
            ("Scene and devices", (self.scene, self.devices)),
        ):
            self.tabs.addTab(self._column(parts), name)
        for part in self._panels():
            part.changed.connect(self.bridge.act)
        self.devices.refresh.connect(lambda: self.bridge.look_for_devices())
        self.presets.saved.connect(self.bridge.save_preset)
        self.presets.recalled.connect(self.bridge.recall_preset)
        self.presets.deleted.connect(self.bridge.delete_preset)
        self.presets.everywhere_wished.connect(self.take_keys)
        self.bridge.presets_changed.connect(self.presets.show_presets)
        self.bridge.presets_changed.connect(lambda _: self.take_keys(self.bridge.settings.keys_everywhere))

    @staticmethod
    def _column(parts: tuple[QWidget, ...]) -> QScrollArea:
        inside = QWidget()
        inside.setObjectName("column")
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(2, 8, 8, 2)
        layout.setSpacing(10)
        for part in parts:
            layout.addWidget(part)
        layout.addStretch(1)
        area = QScrollArea()
        area.setWidget(inside)
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        return area

    def _panels(self) -> tuple[Panel, ...]:
        return self.people, self.mood, self.pose, self.scene, self.devices

    def _shortcuts(self) -> None:
        for keys, slot in (
            ("Ctrl+M", lambda: self.bridge.act({"muted": not self.bridge.intent.muted})),
            ("Ctrl+L", self.bridge.toggle_camera),
            ("Ctrl+R", self.toggle_record),
            ("Ctrl+S", self.save_snapshot),
            ("Ctrl+O", self.speak_file),
        ):
            QShortcut(QKeySequence(keys), self).activated.connect(slot)

    def take_keys(self, everywhere: bool) -> None:
        """Takes the keys of the looks, and one for Mute, from every window, or gives them back."""
        self.bridge.settings.keys_everywhere = everywhere
        self.presets.show_everywhere(everywhere, self._obstacle)
        if self._keys is not None:
            self._keys.close()
            self._keys = None
        if not everywhere or self._obstacle:
            return
        wanted = {p.hotkey: f"preset:{p.name}" for p in self.bridge.settings.presets if p.hotkey}
        try:
            self._keys = hotkeys.take_keys(self._key_pressed, {**wanted, MUTE_EVERYWHERE: "toggle:muted"})
        except OSError as error:
            self.tell("Keys", str(error))
            return
        if self._keys.complaints:
            self.tell("Keys", "\n".join(self._keys.complaints))

    def _key_pressed(self, word: str) -> None:
        """The keys' own thread."""
        self.bridge.from_outside(*word.split(":", 1))

    # --- showing
    def show_view(self, view: View) -> None:
        """Shows everything that `view` says."""
        self.badge.setText(view.badge)
        self._mark(self.badge, view.live)
        self._mark(self.camera, view.live)
        self.camera.setText(view.camera_button)
        self.record.setText(view.record_button)
        self.mute.setChecked(view.muted)
        self.mute.setText("Muted" if view.muted else "Mute")
        self.meter.show_level(view.level, view.clipping, view.muted)
        self.preview.mirror = view.intent.mirror
        self.quiet_line.setText(view.health)
        if view.notices:
            self.notice.setText("\n".join(view.notices))
        self.notice.setVisible(bool(view.notices))
        for part in self._panels():
            part.show_view(view)
        if self.health is not None and self.health.isVisible():
            self.health.refresh()
        if view.engine_failed and view.failure != self._crash_told:
            self._crash_told = view.failure
            QTimer.singleShot(0, lambda: self.engine_failed(view.failure))

    @staticmethod
    def _mark(widget: QWidget, live: bool) -> None:
        if widget.property("live") != live:
            widget.setProperty("live", live)
            style = widget.style()
            if style is not None:
                style.unpolish(widget)
                style.polish(widget)

    def dress(self) -> None:
        """Hands the theme's colours to the widgets that paint themselves."""
        app = QApplication.instance()
        if not isinstance(app, QApplication):
            return
        colours = theme.apply(app, self.bridge.settings.theme)
        self.preview.colours = self.meter.colours = colours
        for pad in self.findChildren(Pad):
            pad.colours = colours
        self.update()

    def set_theme(self, choice: str) -> None:
        self.bridge.settings.theme = choice
        self.dress()

    def tell(self, title: str, words: str) -> None:
        """A message that does not block the event loop."""
        box = QMessageBox(QMessageBox.Icon.Information, title, words, QMessageBox.StandardButton.Ok, self)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setModal(False)
        box.show()

    def engine_failed(self, reason: str) -> None:
        """The engine died: say so, offer to start it again; the camera meanwhile shows a still."""
        box = QMessageBox(
            QMessageBox.Icon.Warning, "The engine stopped", reason, QMessageBox.StandardButton.NoButton, self
        )
        box.setInformativeText(
            "The camera keeps showing the last picture. Start the engine again, or save the log for a bug report."
        )
        again = box.addButton("Start again", QMessageBox.ButtonRole.AcceptRole)
        log = box.addButton("Open the log", QMessageBox.ButtonRole.ActionRole)
        box.addButton("Later", QMessageBox.ButtonRole.RejectRole)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setModal(False)
        if again is not None:
            again.clicked.connect(self._restart)
        if log is not None:
            log.clicked.connect(self.open_health)
        box.show()

    def _restart(self) -> None:
        self._crash_told = ""
        self.bridge.restart()

    # --- doing
    def toggle_record(self) -> None:
        if self.bridge.intent.recording:
            self.bridge.stop_recording()
            return
        suggestion = str(Path.home() / time.strftime("mouthpiece-%Y%m%d-%H%M%S.mp4"))
        path, _ = QFileDialog.getSaveFileName(self, "Record to", suggestion, "Video (*.mp4)")
        if path:
            self.bridge.start_recording(path)

    def save_snapshot(self) -> None:
        picture = self.preview.picture()
        if not picture.size:
            return
        suggestion = str(Path.home() / time.strftime("mouthpiece-%Y%m%d-%H%M%S.png"))
        path, _ = QFileDialog.getSaveFileName(self, "Save picture", suggestion, "Picture (*.png)")
        if path and not self.write_snapshot(path):
            self.tell(
                "Snapshot", f"The picture could not be written to {path}. Is the folder there and the disk not full?"
            )

    def write_snapshot(self, path: str) -> bool:
        """Writes the picture on show, marked as synthetic; False when it could not be written."""
        picture = self.preview.picture()
        height, width = picture.shape[:2]
        image = QImage(picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        image.setText("Comment", "Synthetic picture made with Mouthpiece; no camera was used")
        return image.save(path, "PNG")

    def speak_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Speak a file", "", "Speech (*.wav *.flac *.mp3 *.opus *.ogg *.m4a *.mp4)"
        )
        if path:
            self.bridge.speak(path)

    def import_avatar(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "The folder of the avatar (name.avatar)")
        if path:
            self.bridge.import_avatar(path)

    def open_health(self) -> None:
        if self.health is None:
            from gui.health import HealthWindow  # plots cost a quarter of a second: only those who look pay it

            self.health = HealthWindow(self.bridge.journal, self.bridge.version, self.preview.colours, self)
        self.health.refresh()
        self.health.show()
        self.health.raise_()

    def changeEvent(self, event: QEvent | None) -> None:
        if event is not None and event.type() == QEvent.Type.ActivationChange and self.isActiveWindow():
            self.bridge.came_back()
        super().changeEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        data = event.mimeData() if event is not None else None
        if event is not None and data is not None and data.hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        data = event.mimeData() if event is not None else None
        if data is None or not data.hasUrls():
            return
        path = data.urls()[0].toLocalFile()
        if path.endswith(".avatar"):
            self.bridge.import_avatar(path)
        elif path:
            self.bridge.speak(path)

    def closeEvent(self, event: QCloseEvent | None) -> None:
        if event is None:
            return
        if self.bridge.intent.recording and not self._really_close():
            event.ignore()
            return
        self._frames.stop()
        if self._keys is not None:
            self._keys.close()
            self._keys = None
        self.bridge.settings.geometry = bytes(self.saveGeometry().toBase64().data()).decode()
        self.bridge.close()
        event.accept()

    def _really_close(self) -> bool:
        answer = QMessageBox.question(
            self, "Recording", "A recording is running. Stop it, keep what was recorded, and close?"
        )
        return answer == QMessageBox.StandardButton.Yes
