"""A pad to drag a point in: moods, and where the head turns. It shows a point it is given and emits what the person does."""

from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PyQt6.QtWidgets import QSizePolicy, QWidget

from gui.theme import DARK, Colours
from gui.widgets import RESET_KEYS

MARK_GAP_PX, MARK_HEIGHT_PX = 5, 18


class Pad(QWidget):
    """A square to drag a point in: x and y in -1..1, y upwards; arrow keys move it; double-click, Delete and Home set it back."""

    moved = pyqtSignal(float, float)

    def __init__(self, name: str, marks: dict[str, tuple[float, float]] | None = None, round_pad: bool = False) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setToolTip(f"{name}: drag, or use the arrow keys; double-click or Delete sets it back")
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

    def _beside(self, x: float, y: float, width: int) -> QRectF:
        """Where a word of that width stands outside the rim at (x, y), clear of it."""
        at = self._to_screen(x, y)
        away_x, away_y = x * (width / 2 + MARK_GAP_PX), -y * (MARK_HEIGHT_PX / 2 + MARK_GAP_PX)
        return QRectF(at.x() + away_x - width, at.y() + away_y - MARK_HEIGHT_PX / 2, 2 * width, MARK_HEIGHT_PX)

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
        if event.key() in (*RESET_KEYS, Qt.Key.Key_Home):
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
            p.drawText(self._beside(x, y, p.fontMetrics().horizontalAdvance(word)), Qt.AlignmentFlag.AlignCenter, word)
        p.setPen(QPen(QColor(c.panel), 2))
        p.setBrush(QColor(c.accent))
        p.drawEllipse(self._to_screen(self._x, self._y), 8, 8)
