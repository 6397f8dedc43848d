"""The face, large and centred: the exact picture that the camera sends, pulled on a timer and painted without another copy."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QWheelEvent
from PyQt6.QtWidgets import QSizePolicy, QWidget

from gui.theme import DARK, Colours

Picture = NDArray[np.uint8]
Pull = Callable[[], Picture | None]


class Preview(QWidget):
    """Shows `[H, W, 3]` uint8 RGB pictures; wheel zooms, drag moves the framing, double-click resets both."""

    zoomed = pyqtSignal(float)
    dragged = pyqtSignal(float, float)
    reset = pyqtSignal()
    pointed = pyqtSignal(float, float)

    def __init__(self, pull: Pull) -> None:
        super().__init__()
        self.setAccessibleName("Preview of the camera picture")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(384, 216)
        self.setMouseTracking(True)
        self.colours: Colours = DARK
        self.mirror = True
        self._pull, self._picture = pull, np.zeros((0, 0, 3), np.uint8)
        self._image: QImage | None = None
        self._grip: QPointF | None = None
        self.message = "Starting the face"
        self.painted = 0

    def sizeHint(self) -> QSize:
        return QSize(800, 450)

    def refresh(self) -> bool:
        """Takes the newest picture if there is one; True if it will be painted. Called by the window's timer."""
        picture = self._pull()
        if picture is None:
            return False
        self._picture = np.ascontiguousarray(picture)
        height, width = self._picture.shape[:2]
        data: Any = self._picture.data
        self._image = QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888)
        self.update()
        return True

    def picture(self) -> Picture:
        """The picture on show, `[H, W, 3]`, not mirrored; empty before the first."""
        return self._picture

    def _target(self) -> QRectF:
        width, height = (self._image.width(), self._image.height()) if self._image else (16, 9)
        scale = min(self.width() / width, self.height() / height)
        return QRectF(
            (self.width() - width * scale) / 2, (self.height() - height * scale) / 2, width * scale, height * scale
        )

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        p = QPainter(self)
        target = self._target()
        if self._image is None:
            p.fillRect(target, QColor(self.colours.panel))
            p.setPen(QColor(self.colours.quiet))
            p.drawText(target, Qt.AlignmentFlag.AlignCenter, self.message)
            return
        p.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        if self.mirror:
            p.translate(2 * target.center().x(), 0)
            p.scale(-1, 1)
        p.drawImage(target, self._image)
        self.painted += 1

    def _sign(self) -> float:
        return -1.0 if self.mirror else 1.0

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        if event is not None:
            self.zoomed.emit(1.1 ** (event.angleDelta().y() / 120))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            self._grip = event.position()

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        if event is None:
            return
        target, at = self._target(), event.position()
        if self._grip is not None:
            step = at - self._grip
            self._grip = at
            self.dragged.emit(self._sign() * step.x() / target.width(), step.y() / target.height())
            return
        x = (at.x() - target.center().x()) / (target.width() / 2)
        y = (target.center().y() - at.y()) / (target.height() / 2)
        self.pointed.emit(self._sign() * max(-1.0, min(1.0, x)), max(-1.0, min(1.0, y)))

    def mouseReleaseEvent(self, _event: QMouseEvent | None) -> None:
        self._grip = None

    def mouseDoubleClickEvent(self, _event: QMouseEvent | None) -> None:
        self._grip = None
        self.reset.emit()
