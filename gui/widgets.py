"""Small parts that the panels are made of: a slider with its value, a two-dimensional pad, a level meter.

They know nothing of the engine: they show a value they are given (without telling anyone) and emit what the person does.
"""

import math
from collections.abc import Callable

from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QSlider, QVBoxLayout, QWidget

from gui.theme import DARK, Colours

_STEPS = 1000
METER_MS = 60


class Dial(QWidget):
    """A labelled slider over `low..high` with its value in words; double-click resets it."""

    changed = pyqtSignal(float)

    def __init__(self, name: str, low: float, high: float, default: float, word: Callable[[float], str]) -> None:
        super().__init__()
        self.low, self.high, self.default, self._word = low, high, default, word
        self._slider = QSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(0, _STEPS)
        self._slider.setPageStep(_STEPS // 10)
        self._slider.setSingleStep(_STEPS // 50)
        self._slider.setAccessibleName(name)
        self._slider.setToolTip(f"{name}: double-click to reset")
        self._slider.mouseDoubleClickEvent = self._reset  # type: ignore[method-assign, assignment]
        self._value = QLabel()
        self._value.setMinimumWidth(52)
        self._value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._value.setProperty("quiet", True)
        label = QLabel(name)
        label.setMinimumWidth(76)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(label)
        row.addWidget(self._slider, 1)
        row.addWidget(self._value)
        self.show_value(default)
        self._slider.valueChanged.connect(self._moved)

    def value(self) -> float:
        return self.low + (self.high - self.low) * self._slider.value() / _STEPS

    def show_value(self, value: float) -> None:
        """Shows `value` without emitting; ignored while the person drags."""
        if self._slider.isSliderDown():
            return
        self._slider.blockSignals(True)
        self._slider.setValue(round((value - self.low) / (self.high - self.low) * _STEPS))
        self._slider.blockSignals(False)
        self._value.setText(self._word(value))

    def slider(self) -> QSlider:
        return self._slider

    def _moved(self) -> None:
        value = self.value()
        self._value.setText(self._word(value))
        self.changed.emit(value)

    def _reset(self, _event: QMouseEvent) -> None:
        self._slider.setSliderDown(False)
        self.show_value(self.default)
        self.changed.emit(self.default)


class Pad(QWidget):
    """A square to drag a point in: x and y in -1..1, y upwards; arrow keys move it, double-click and Home reset it."""

    moved = pyqtSignal(float, float)

    def __init__(self, name: str, marks: dict[str, tuple[float, float]] | None = None, round_pad: bool = False) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setToolTip(f"{name}: drag; double-click to reset")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._marks, self._round = marks or {}, round_pad
        self._x = self._y = 0.0
        self._dragging = False
        self.colours: Colours = DARK

    def sizeHint(self) -> QSize:
        return QSize(220, 186)

    def point(self) -> tuple[float, float]:
        return self._x, self._y

    def show_point(self, x: float, y: float) -> None:
        """Moves the point without emitting; ignored while the person drags."""
        if not self._dragging and (abs(x - self._x) > 1e-4 or abs(y - self._y) > 1e-4):
            self._x, self._y = x, y
            self.update()

    def _field(self) -> QRectF:
        margin = 22.0 if self._marks else 8.0
        side = min(self.width(), self.height()) - 2 * margin
        width = side if self._round else self.width() - 2 * margin
        return QRectF((self.width() - width) / 2, (self.height() - side) / 2, width, side)

    def _to_screen(self, x: float, y: float) -> QPointF:
        r = self._field()
        return QPointF(r.center().x() + x * r.width() / 2, r.center().y() - y * r.height() / 2)

    def _set(self, x: float, y: float) -> None:
        length = (x * x + y * y) ** 0.5
        if self._round and length > 1:
            x, y = x / length, y / length
        self._x, self._y = max(-1.0, min(1.0, x)), max(-1.0, min(1.0, y))
        self.update()
        self.moved.emit(self._x, self._y)
        self.setAccessibleDescription(f"{self._x:.2f} across, {self._y:.2f} up")

    def _follow(self, position: QPointF) -> None:
        r = self._field()
        self._set((position.x() - r.center().x()) / (r.width() / 2), (r.center().y() - position.y()) / (r.height() / 2))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            self._dragging = True
            self._follow(event.position())

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        if event is not None and self._dragging:
            self._follow(event.position())

    def mouseReleaseEvent(self, _event: QMouseEvent | None) -> None:
        self._dragging = False

    def mouseDoubleClickEvent(self, _event: QMouseEvent | None) -> None:
        self._dragging = False
        self._set(0.0, 0.0)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        steps = {
            Qt.Key.Key_Left: (-0.1, 0.0),
            Qt.Key.Key_Right: (0.1, 0.0),
            Qt.Key.Key_Up: (0.0, 0.1),
            Qt.Key.Key_Down: (0.0, -0.1),
        }
        if event is None:
            return
        if event.key() == Qt.Key.Key_Home:
            self._set(0.0, 0.0)
        elif event.key() in steps:
            dx, dy = steps[Qt.Key(event.key())]
            self._set(self._x + dx, self._y + dy)
        else:
            super().keyPressEvent(event)

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        p = QPainter(self)
        p.setRenderHint(QPainter.RenderHint.Antialiasing)
        c, r = self.colours, self._field()
        p.setBrush(QColor(c.field))
        p.setPen(QPen(QColor(c.accent if self.hasFocus() else c.line), 2 if self.hasFocus() else 1))
        if self._round:
            p.drawEllipse(r)
        else:
            p.drawRoundedRect(r, 8, 8)
        p.setPen(QPen(QColor(c.line), 1))
        p.drawLine(QPointF(r.center().x(), r.top() + 6), QPointF(r.center().x(), r.bottom() - 6))
        p.drawLine(QPointF(r.left() + 6, r.center().y()), QPointF(r.right() - 6, r.center().y()))
        p.setPen(QColor(c.quiet))
        for word, (x, y) in self._marks.items():
            at = self._to_screen(x * 1.17, y * 1.13)
            p.drawText(QRectF(at.x() - 44, at.y() - 9, 88, 18), Qt.AlignmentFlag.AlignCenter, word)
        p.setPen(QPen(QColor(c.panel), 2))
        p.setBrush(QColor(c.accent))
        p.drawEllipse(self._to_screen(self._x, self._y), 8, 8)


class LevelMeter(QWidget):
    """The microphone's level on a decibel scale, red for a moment when it clips; grey when muted."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Microphone level")
        self.setFixedHeight(8)
        self.setMinimumWidth(120)
        self.colours: Colours = DARK
        self._share, self._clipping, self._muted = 0.0, False, False
        self._goal = 0.0
        self._fall = QTimer(self)  # nobody calls again when a microphone falls silent for good
        self._fall.setInterval(METER_MS)
        self._fall.timeout.connect(lambda: self._show(self._goal, self._clipping, self._muted))

    def show_level(self, level: float, clipping: bool, muted: bool) -> None:
        """`level` 0..1 full scale; drawn from -60 dB to 0 dB, falling slowly."""
        self._goal = max(0.0, 1 + math.log10(max(level, 1e-6)) / 3)
        self._show(self._goal, clipping, muted)

    def _show(self, goal: float, clipping: bool, muted: bool) -> None:
        share = max(goal, self._share - 0.04)
        if share > goal and not self._fall.isActive():
            self._fall.start()
        elif share <= goal:
            self._fall.stop()
        if (round(share, 3), clipping, muted) != (round(self._share, 3), self._clipping, self._muted):
            self._share, self._clipping, self._muted = share, clipping, muted
            self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        p = QPainter(self)
        p.setRenderHint(QPainter.RenderHint.Antialiasing)
        p.setPen(Qt.PenStyle.NoPen)
        p.setBrush(QColor(self.colours.line))
        p.drawRoundedRect(QRectF(self.rect()), 4, 4)
        if self._share > 0.01 and not self._muted:
            p.setBrush(QColor(self.colours.alert if self._clipping else self.colours.good))
            p.drawRoundedRect(QRectF(0, 0, self.width() * min(1.0, self._share), self.height()), 4, 4)


def panel(title: str) -> tuple[QFrame, QVBoxLayout]:
    """A titled box and the layout to fill."""
    frame = QFrame()
    frame.setObjectName("panel")
    column = QVBoxLayout(frame)
    column.setContentsMargins(14, 10, 14, 12)
    column.setSpacing(8)
    heading = QLabel(title)
    heading.setObjectName("heading")
    column.addWidget(heading)
    return frame, column
