"""The controls of the face beside it. A panel shows a View and emits `changed(dict)`; it never writes anything else."""

from collections.abc import Sequence

from PyQt6.QtCore import QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QIcon, QPainter, QPixmap
from PyQt6.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QColorDialog,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from gui import moods
from gui.pad import Pad
from gui.state import BACKGROUNDS, GAZE_MODES, MOODS, POSE_LIMITS_DEG, RANGES, View
from gui.widgets import LABEL_PX, Choice, Dial, panel

_BACKGROUND_WORDS = {
    "colour": "Colour",
    "image": "Image",
    "blur": "Blurred image",
    "green": "Green screen",
    "transparent": "Transparent",
}
_GAZE_WORDS = {"camera": "Into the camera", "wander": "Wander", "pointer": "Follow the pointer"}


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _degrees(value: float) -> str:
    return f"{value:+.0f}°" if round(value) else "0°"


def _share(value: float) -> str:
    return f"{100 * value:+.0f} %" if round(100 * value) else "0 %"


class Panel(QWidget):
    """A box of controls: `changed` carries the settings that the person changed."""

    changed = pyqtSignal(dict)

    def __init__(self, title: str) -> None:
        super().__init__()
        frame, self.column = panel(title)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(frame)

    def dial(self, field: str, name: str, default: float, word: object = _percent) -> Dial:
        low, high = RANGES[field]
        dial = Dial(name, low, high, default, word)  # type: ignore[arg-type]
        dial.setObjectName(field)
        dial.changed.connect(lambda value: self.changed.emit({field: value}))
        self.column.addWidget(dial)
        return dial

    def show_view(self, view: View) -> None:
        """Shows the settings of `view`."""
        for dial in self.findChildren(Dial):
            dial.show_value(float(getattr(view.intent, dial.objectName())))


class PeoplePanel(Panel):
    """The gallery: one picture per person of the avatar."""

    def __init__(self) -> None:
        super().__init__("PERSON")
        self._grid = QGridLayout()
        self.column.addLayout(self._grid)
        self._group = QButtonGroup(self)
        self._buttons: dict[str, QToolButton] = {}

    def show_people(self, people: Sequence[tuple[str, str, str]]) -> None:
        """`people`: (name, words about, preview picture's path)."""
        for button in self._buttons.values():
            self._group.removeButton(button)
            button.deleteLater()
        self._buttons = {}
        for i, (name, about, preview) in enumerate(people):
            button = QToolButton()
            button.setCheckable(True)
            button.setText(name.capitalize())
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            button.setIcon(QIcon(preview))
            button.setIconSize(QSize(60, 60))
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            button.setToolTip(about)
            button.setAccessibleName(f"Person {name}: {about}")
            button.clicked.connect(lambda _checked, person=name: self.changed.emit({"person": person}))
            self._group.addButton(button)
            self._grid.addWidget(button, i // 4, i % 4)
            self._buttons[name] = button

    def buttons(self) -> dict[str, QToolButton]:
        return self._buttons

    def show_view(self, view: View) -> None:
        button = self._buttons.get(view.intent.person)
        if button is not None and not button.isChecked():
            button.setChecked(True)


class MoodPanel(Panel):
    """Five knobs, their strength, and a pad to drag between moods."""

    def __init__(self) -> None:
        super().__init__("MOOD")
        self.pad = Pad("Mood pad", {mood.capitalize(): moods.position(mood) for mood in moods.RIM}, round_pad=True)
        self.pad.moved.connect(lambda x, y: self.changed.emit(moods.weights_at(x, y)))
        self.column.addWidget(self.pad)
        self.dials = {mood: self.dial(mood, mood.capitalize(), 0.0) for mood in MOODS}
        self.dials["intensity"] = self.dial("intensity", "Strength", 1.0)
        self.auto = self.dial("auto_emotion", "From voice", 0.0)

    def allow_auto(self, available: bool) -> None:
        """`auto from voice` shows only for avatars that hear emotion."""
        self.auto.setVisible(available)

    def show_view(self, view: View) -> None:
        super().show_view(view)
        self.pad.show_point(*moods.point_of({mood: getattr(view.intent, mood) for mood in MOODS}))


class PosePanel(Panel):
    """Where the head and the eyes turn, how often it blinks, how much it moves by itself."""

    def __init__(self) -> None:
        super().__init__("HEAD AND EYES")
        self.pad = Pad("Head pad")
        self.pad.moved.connect(self._turn)
        self.column.addWidget(self.pad)
        self.roll = self.dial("roll", "Tilt", 0.0, _degrees)
        row = QHBoxLayout()
        label = QLabel("Gaze")
        label.setMinimumWidth(LABEL_PX)
        row.addWidget(label)
        self.gaze = Choice("Gaze")
        for mode in GAZE_MODES:
            self.gaze.addItem(_GAZE_WORDS[mode], mode)
        self.gaze.activated.connect(lambda i: self.changed.emit({"gaze": self.gaze.itemData(i)}))
        row.addWidget(self.gaze, 1)
        self.column.addLayout(row)
        self.blink = self.dial("blink_per_minute", "Blinks", 15.0, lambda v: f"{v:.0f} / min")
        self.idle = self.dial("idle", "Idle motion", 1.0)
        self.mirrored = True

    def _side(self) -> float:
        return -1.0 if self.mirrored else 1.0

    def _turn(self, x: float, y: float) -> None:
        self.changed.emit({"yaw": self._side() * x * POSE_LIMITS_DEG["yaw"], "pitch": -y * POSE_LIMITS_DEG["pitch"]})

    def show_view(self, view: View) -> None:
        super().show_view(view)
        self.mirrored = view.intent.mirror
        self.pad.show_point(
            self._side() * view.intent.yaw / POSE_LIMITS_DEG["yaw"], -view.intent.pitch / POSE_LIMITS_DEG["pitch"]
        )
        self.gaze.setCurrentIndex(self.gaze.findData(view.intent.gaze))


class ScenePanel(Panel):
    """What is behind the person, and how the person stands in the frame."""

    def __init__(self) -> None:
        super().__init__("SCENE")
        self.kind = Choice("Background")
        for kind in BACKGROUNDS:
            self.kind.addItem(_BACKGROUND_WORDS[kind], kind)
        self.kind.activated.connect(self._chosen)
        self.pick = QPushButton("Choose")
        self.pick.setAccessibleName("Choose the background colour or image")
        self.pick.clicked.connect(self._pick)
        row = QHBoxLayout()
        row.addWidget(self.kind, 1)
        row.addWidget(self.pick)
        self.column.addLayout(row)
        self.zoom = self.dial("zoom", "Zoom", 1.0, lambda v: f"{v:.2f} ×")
        self.across = self.dial("offset_x", "Sideways", 0.0, _share)
        self.up = self.dial("offset_y", "Height", 0.0, lambda v: _share(-v))
        self.mirror = QCheckBox("Mirror my preview")
        self.mirror.setToolTip("As in a mirror; what the camera sends is never mirrored")
        self.mirror.toggled.connect(lambda on: self.changed.emit({"mirror": on}))
        self.column.addWidget(self.mirror)
        self._intent_image, self._intent_colour = "", ""
        self._swatch = ("", "")

    def _colour_icon(self, colour: str) -> QIcon:
        """A square of the colour with a rim that shows on either theme, sharp on any screen."""
        side, scale = self.pick.iconSize().height(), self.devicePixelRatioF()
        swatch = QPixmap(round(side * scale), round(side * scale))
        swatch.setDevicePixelRatio(scale)
        swatch.fill(Qt.GlobalColor.transparent)
        p = QPainter(swatch)
        p.setRenderHint(QPainter.RenderHint.Antialiasing)
        p.setPen(QColor("#8b939e"))
        p.setBrush(QColor(colour))
        p.drawRoundedRect(QRectF(1, 1, side - 4, side - 2), 3, 3)  # the words begin where the icon ends
        p.end()
        return QIcon(swatch)

    def _chosen(self, index: int) -> None:
        kind = self.kind.itemData(index)
        if kind in ("image", "blur") and not self._intent_image:
            self._pick_image(kind)
        else:
            self.changed.emit({"background": kind})

    def _pick(self) -> None:
        kind = self.kind.currentData()
        if kind in ("image", "blur"):
            self._pick_image(kind)
            return
        colour = QColorDialog.getColor(QColor(self._intent_colour or "#39424e"), self, "Background colour")
        if colour.isValid():
            self.changed.emit({"background": "colour", "colour": colour.name()})

    def _pick_image(self, kind: str) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Background image", "", "Pictures (*.png *.jpg *.jpeg *.webp *.bmp)"
        )
        if path:
            self.changed.emit({"background": kind, "image": path})

    def show_view(self, view: View) -> None:
        super().show_view(view)
        intent = view.intent
        self._intent_image, self._intent_colour = intent.image, intent.colour
        self.kind.setCurrentIndex(self.kind.findData(intent.background))
        self.pick.setEnabled(intent.background in ("colour", "image", "blur"))
        if self._swatch != (intent.background, intent.colour):
            self._swatch = (intent.background, intent.colour)
            self.pick.setIcon(self._colour_icon(intent.colour) if intent.background == "colour" else QIcon())
        self.mirror.blockSignals(True)
        self.mirror.setChecked(intent.mirror)
        self.mirror.blockSignals(False)
