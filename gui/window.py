"""The main window: the face at the left, the controls at the right, one quiet line below. It shows Views and passes wishes on."""

from typing import TYPE_CHECKING

from PyQt6.QtCore import QByteArray, QEvent, QSize, Qt, QTimer
from PyQt6.QtGui import QAction, QCloseEvent, QDragEnterEvent, QDropEvent, QKeySequence, QShortcut
from PyQt6.QtWidgets import QApplication, QHBoxLayout, QWidget

from gui import messages, theme
from gui.bridge import Bridge
from gui.files import Files, write_picture
from gui.keyboard import KeysEverywhere
from gui.pad import Pad
from gui.sidebar import Sidebar
from gui.stage import Stage
from gui.state import View

if TYPE_CHECKING:
    from gui.health import HealthWindow

FRAME_TIMER_MS = 15
"""The preview is asked for twice a frame, so that no picture waits longer than half a frame."""


class Window(QWidget):
    """Everything on one page. `bridge` is the only way to the engine."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.setObjectName("window")
        self.setWindowTitle("Mouthpiece")
        self.setAcceptDrops(True)
        self.setMinimumSize(1000, 560)
        self.bridge = bridge
        self.health: HealthWindow | None = None
        self._crash_told = ""
        self.stage, self.tabs = Stage(bridge.pull_picture), Sidebar()
        stage, tabs = self.stage, self.tabs
        self.preview, self.record, self.mute = stage.preview, stage.record, stage.mute
        self.people, self.mood, self.pose = tabs.people, tabs.mood, tabs.pose
        self.scene, self.devices, self.presets = tabs.scene, tabs.devices, tabs.presets
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 14, 14, 8)
        row.setSpacing(14)
        row.addWidget(stage, 1)
        row.addWidget(tabs)
        self.files = Files(self, bridge, self.preview)
        self._connect_stage()
        self._connect_sidebar()
        self.dress()
        self._show_all()
        self._keys = KeysEverywhere(bridge, self.presets, self.tell)
        if bridge.settings.geometry:
            self.tabs.setCurrentIndex(min(bridge.settings.page, self.tabs.count() - 1))
            self.restoreGeometry(QByteArray.fromBase64(bridge.settings.geometry.encode()))
        self._frames = QTimer(self)
        self._frames.setTimerType(Qt.TimerType.PreciseTimer)
        self._frames.timeout.connect(self.preview.refresh)
        self._frames.start(FRAME_TIMER_MS)

    def sizeHint(self) -> QSize:
        return QSize(1280, 800)

    # --- wishes
    def _connect_stage(self) -> None:
        bridge, stage, files = self.bridge, self.stage, self.files
        stage.changed.connect(bridge.act)
        stage.themed.connect(self.set_theme)
        self.preview.zoomed.connect(lambda k: bridge.act({"zoom": bridge.intent.zoom * k}))
        self.preview.dragged.connect(
            lambda dx, dy: bridge.act(
                {"offset_x": bridge.intent.offset_x + dx, "offset_y": bridge.intent.offset_y + dy}
            )
        )
        self.preview.reset.connect(lambda: bridge.reset("zoom", "offset_x", "offset_y"))
        self.preview.pointed.connect(bridge.point_at)
        for button, slot, keys in (
            (stage.camera, bridge.toggle_camera, "Ctrl+L"),
            (stage.record, files.toggle_record, "Ctrl+R"),
            (stage.snapshot, files.save_snapshot, "Ctrl+S"),
            (stage.speak, files.speak, "Ctrl+O"),
            (stage.health, self.open_health, ""),
        ):
            button.clicked.connect(lambda _checked, slot=slot: slot())
            if keys:
                QShortcut(QKeySequence(keys), self).activated.connect(slot)
        QShortcut(QKeySequence("Ctrl+M"), self).activated.connect(self._toggle_mute)
        for action, slot in (
            (stage.import_avatar, files.import_avatar),
            (stage.new_avatar, bridge.wants_guide.emit),
            (stage.outside, bridge.wants_outside.emit),
            (stage.check, bridge.wants_first_run.emit),
            (stage.open_health, self.open_health),
        ):
            if isinstance(action, QAction):
                action.triggered.connect(lambda _checked, slot=slot: slot())

    def _connect_sidebar(self) -> None:
        bridge = self.bridge
        self.tabs.changed.connect(bridge.act)
        self.devices.refresh.connect(lambda: bridge.look_for_devices())
        self.devices.stopped.connect(bridge.switching.building.cancel)
        self.presets.saved.connect(bridge.save_preset)
        self.presets.recalled.connect(bridge.recall_preset)
        self.presets.deleted.connect(bridge.delete_preset)
        bridge.presets_changed.connect(self.presets.show_presets)
        bridge.view_changed.connect(self.show_view)
        bridge.people_changed.connect(self._show_people)
        bridge.devices_changed.connect(self.devices.show_devices)
        bridge.message.connect(self.tell)

    def _toggle_mute(self) -> None:
        self.bridge.act({"muted": not self.bridge.intent.muted})

    # --- showing
    def _show_all(self) -> None:
        self.show_view(self.bridge.view)
        self._show_people()
        self.devices.show_devices(self.bridge.devices)
        self.presets.show_presets(self.bridge.settings.presets)

    def _show_people(self) -> None:
        self.people.show_people(self.bridge.people)
        self.mood.allow_auto(self.bridge.hears_emotion)

    def show_view(self, view: View) -> None:
        """Shows everything that `view` says."""
        self.stage.show_view(view)
        self.tabs.show_view(view)
        if self.health is not None and self.health.isVisible():
            self.health.refresh()
        if view.engine_failed and view.failure != self._crash_told:
            self._crash_told = view.failure
            QTimer.singleShot(0, lambda: messages.engine_stopped(self, view.failure, self._restart, self.open_health))

    def dress(self) -> None:
        """Hands the theme's colours to the widgets that paint themselves."""
        app = QApplication.instance()
        if not isinstance(app, QApplication):
            return
        colours = theme.apply(app, self.bridge.settings.theme)
        self.preview.colours = self.stage.meter.colours = colours
        for pad in self.findChildren(Pad):
            pad.colours = colours
        self.update()

    def set_theme(self, choice: str) -> None:
        self.bridge.settings.theme = choice
        self.dress()
        if self.health is not None:  # its plots are painted in the old colours
            was_open = self.health.isVisible()
            self.health.deleteLater()
            self.health = None
            if was_open:
                self.open_health()

    def tell(self, title: str, words: str) -> None:
        """A message that does not block the event loop."""
        messages.tell(self, title, words)

    def _restart(self) -> None:
        self._crash_told = ""
        self.bridge.restart()

    def write_snapshot(self, path: str) -> bool:
        """Writes the picture on show, marked as synthetic; False when it could not be written."""
        return write_picture(self.preview.picture(), path)

    def open_health(self) -> None:
        if self.health is None:
            from gui.health import HealthWindow  # plots cost a quarter of a second: only those who look pay it

            self.health = HealthWindow(self.bridge.journal, self.bridge.version, self.preview.colours, self)
        self.health.refresh()
        self.health.show()
        self.health.raise_()

    # --- what the system says
    def changeEvent(self, event: QEvent | None) -> None:
        if event is not None and event.type() == QEvent.Type.ActivationChange and self.isActiveWindow():
            self.bridge.plugging.came_back()
        super().changeEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        data = event.mimeData() if event is not None else None
        if event is not None and data is not None and data.hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        data = event.mimeData() if event is not None else None
        if data is not None and data.hasUrls():
            self.files.dropped(data.urls()[0].toLocalFile())

    def closeEvent(self, event: QCloseEvent | None) -> None:
        if event is None:
            return
        if self.bridge.intent.recording and not messages.really_close(self):
            event.ignore()
            return
        self._frames.stop()
        self._keys.close()
        self.bridge.settings.geometry = bytes(self.saveGeometry().toBase64().data()).decode()
        self.bridge.settings.page = max(0, self.tabs.currentIndex())
        self.bridge.close()
        event.accept()
