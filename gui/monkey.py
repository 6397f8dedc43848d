"""Hands without a mind: clicks, drags, wheel and keys at random places of whatever windows the app has open."""

import numpy as np
from PyQt6.QtCore import QEvent, QPoint, QPointF, Qt
from PyQt6.QtGui import QMouseEvent, QWheelEvent
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QApplication, QColorDialog, QFileDialog, QWidget

KEYS = (
    Qt.Key.Key_Tab, Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_Space,
    Qt.Key.Key_Home, Qt.Key.Key_PageUp, Qt.Key.Key_Escape, Qt.Key.Key_A, Qt.Key.Key_1,
)  # fmt: skip
NONE, LEFT = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.LeftButton


class Monkey:
    """One random deed at a time; `spared` is left alone. Dialogs that reach into the file system are only dismissed."""

    def __init__(self, seed: int, spared: QWidget | None = None) -> None:
        self._rng, self._spared = np.random.default_rng(seed), spared
        self.deeds = 0

    def act(self) -> None:
        """Does something to some window that is open. Qt's thread; may run inside a dialog's own event loop."""
        target = self._target()
        if target is None or target is self._spared:
            return
        self.deeds += 1
        if isinstance(target, QFileDialog | QColorDialog):
            target.reject()
            return
        deed = self._rng.random()
        at = self._place(target)
        if deed < 0.55:
            QTest.mouseClick(target, LEFT, pos=at)  # type: ignore[call-overload]
        elif deed < 0.75:
            self._drag(target, at, self._place(target))
        elif deed < 0.83:
            QTest.mouseDClick(target, LEFT, pos=at)  # type: ignore[call-overload]
        elif deed < 0.92:
            self._wheel(target, at)
        else:
            held = Qt.KeyboardModifier.ControlModifier if self._rng.random() < 0.2 else NONE
            key = KEYS[int(self._rng.integers(len(KEYS)))]
            QTest.keyClick(target, key, held)  # type: ignore[call-overload]

    def _target(self) -> QWidget | None:
        open_now = QApplication.activePopupWidget() or QApplication.activeModalWidget()
        if open_now is None:
            windows = [w for w in QApplication.topLevelWidgets() if w.isVisible() and w.width() > 1]
            if not windows:
                return None
            open_now = windows[int(self._rng.integers(len(windows)))]
        if isinstance(open_now, QFileDialog | QColorDialog):
            return open_now
        inside = [
            w for w in open_now.findChildren(QWidget) if w.isVisible() and w.isEnabled() and w.window() is open_now
        ]
        return inside[int(self._rng.integers(len(inside)))] if inside and self._rng.random() < 0.95 else open_now

    def _place(self, widget: QWidget) -> QPoint:
        return QPoint(int(self._rng.integers(max(1, widget.width()))), int(self._rng.integers(max(1, widget.height()))))

    def _drag(self, widget: QWidget, start: QPoint, end: QPoint) -> None:
        steps = [start + (end - start) * k / 4 for k in range(5)]
        for kind, at in ((QEvent.Type.MouseButtonPress, start), *((QEvent.Type.MouseMove, s) for s in steps)):
            event = QMouseEvent(kind, QPointF(at), QPointF(widget.mapToGlobal(at)), LEFT, LEFT, NONE)
            QApplication.sendEvent(widget, event)
        end_global = QPointF(widget.mapToGlobal(end))
        none = Qt.MouseButton.NoButton
        QApplication.sendEvent(
            widget, QMouseEvent(QEvent.Type.MouseButtonRelease, QPointF(end), end_global, LEFT, none, NONE)
        )

    def _wheel(self, widget: QWidget, at: QPoint) -> None:
        turn = QPoint(0, int(self._rng.choice([-240, -120, 120, 240])))
        event = QWheelEvent(
            QPointF(at), QPointF(widget.mapToGlobal(at)), QPoint(), turn, Qt.MouseButton.NoButton, NONE,
            Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(widget, event)
