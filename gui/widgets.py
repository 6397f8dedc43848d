"""Small parts that the panels are made of: a slider with its value, a list to choose from, a titled box.

They know nothing of the engine: they show a value they are given (without telling anyone) and emit what the person does.
"""

from collections.abc import Callable

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtGui import QKeyEvent, QMouseEvent, QPaintEvent, QWheelEvent
from PyQt6.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSlider,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QVBoxLayout,
    QWidget,
)

_STEPS = 1000
LABEL_PX = 76  # so that sliders stand below each other
RESET_KEYS = (Qt.Key.Key_Delete, Qt.Key.Key_Backspace)


class Slider(QSlider):
    """A slider that double-click and Delete set back, and that the wheel moves only once it has been chosen: the page
    scrolls on otherwise.
    """

    reset = pyqtSignal()

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setRange(0, _STEPS)
        self.setPageStep(_STEPS // 10)
        self.setSingleStep(_STEPS // 50)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        if event is not None and not self.hasFocus():
            event.ignore()
            return
        super().wheelEvent(event)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if event is not None and event.key() in RESET_KEYS:
            self.reset.emit()
            return
        super().keyPressEvent(event)

    def mouseDoubleClickEvent(self, _event: QMouseEvent | None) -> None:
        self.setSliderDown(False)
        self.reset.emit()


class Choice(QComboBox):
    """A list of names: one that is too long ends in an ellipsis, and the wheel changes nothing by accident."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumContentsLength(14)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.currentTextChanged.connect(self.setToolTip)

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        if event is not None and not self.hasFocus():
            event.ignore()
            return
        super().wheelEvent(event)

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        p, option = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(option)
        style = self.style()
        if style is not None:
            kind, part = QStyle.ComplexControl.CC_ComboBox, QStyle.SubControl.SC_ComboBoxEditField
            width = style.subControlRect(kind, option, part, self).width() - 4
            option.currentText = self.fontMetrics().elidedText(self.currentText(), Qt.TextElideMode.ElideRight, width)
        p.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        p.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)


class Dial(QWidget):
    """A labelled slider over `low..high` with its value in words; double-click resets it."""

    changed = pyqtSignal(float)

    def __init__(self, name: str, low: float, high: float, default: float, word: Callable[[float], str]) -> None:
        super().__init__()
        self.low, self.high, self.default, self._word = low, high, default, word
        self._slider = Slider()
        self._slider.setAccessibleName(name)
        self._slider.setToolTip(f"{name}: double-click or Delete sets it back")
        self._slider.reset.connect(self._reset)
        self._value = QLabel()
        self._value.setMinimumWidth(52)
        self._value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._value.setProperty("quiet", True)
        label = QLabel(name)
        label.setMinimumWidth(LABEL_PX)
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
        self._say(value)

    def slider(self) -> Slider:
        return self._slider

    def _moved(self) -> None:
        value = self.value()
        self._say(value)
        self.changed.emit(value)

    def _say(self, value: float) -> None:
        words = self._word(value)
        if words != self._value.text():
            self._value.setText(words)
            self._slider.setAccessibleDescription(words)

    def _reset(self) -> None:
        self.show_value(self.default)
        self.changed.emit(self.default)


def scrolling(inside: QWidget) -> QScrollArea:
    """What is higher than its place, to be scrolled up and down, without a frame."""
    area = QScrollArea()
    area.setWidget(inside)
    area.setWidgetResizable(True)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return area


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
