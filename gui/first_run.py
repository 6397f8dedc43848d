"""The first page: every part checked, and the virtual camera explained for this system in two steps."""

import html
import sys
import threading

from PyQt6.QtCore import QObject, Qt, pyqtSignal
from PyQt6.QtWidgets import (
    QDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from engine.doctor import Check, checks
from gui.bridge import Bridge
from gui.state import for_the_window
from gui.theme import colours
from gui.widgets import panel, scrolling

CAMERA_STEPS = {  # what to do, and the command if it is one
    "linux": (
        ("Install the driver:", "sudo apt install v4l2loopback-dkms"),
        ("Load it:", 'sudo modprobe v4l2loopback devices=1 card_label="Mouthpiece" exclusive_caps=1'),
    ),
    "darwin": (
        (
            "Install OBS Studio, start its virtual camera once and allow it in System Settings, Privacy and Security.",
            "",
        ),
        ("Quit OBS and press Start camera here; choose “OBS Virtual Camera” in your meeting.", ""),
    ),
    "win32": (
        ("Install OBS Studio; its virtual camera comes with it.", ""),
        ("Press Start camera here; choose “OBS Virtual Camera” in your meeting.", ""),
    ),
}
UNINTERESTING = ("python", "display")  # without them this page would not show


class Wrapped(QLabel):
    """Words that wrap, and take the height that they need."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.setAlignment(Qt.AlignmentFlag.AlignTop)


def _first_up(words: str) -> str:
    return words[:1].upper() + words[1:]


class Doctor(QObject):
    """Asks the doctor on a thread of its own, which keeps this alive: answers after the page went fall flat."""

    answered = pyqtSignal(object)
    finished = pyqtSignal()

    def ask(self) -> None:
        threading.Thread(target=self._ask, name="doctor", daemon=True).start()

    def _ask(self) -> None:
        for answer in checks():
            self.answered.emit(answer)
        self.finished.emit()


class FirstRunPage(QDialog):
    """Shows each of the doctor's answers as it comes."""

    finished_checking = pyqtSignal()

    def __init__(self, bridge: Bridge, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Is everything ready?")
        self.resize(720, 640)
        self._bridge, self._quiet = bridge, colours(bridge.settings.theme).quiet
        self.answers: list[Check] = []
        self._doctor: Doctor | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(22, 18, 22, 18)
        column.setSpacing(10)
        title = QLabel("Is everything ready?")
        title.setObjectName("title")
        column.addWidget(title)
        column.addWidget(QLabel("Speak, and the face speaks with you. Nothing you say or show leaves this computer."))
        column.addWidget(self._list(), 1)
        self._state = QLabel()
        self._state.setProperty("quiet", True)
        column.addWidget(self._state)
        column.addWidget(self._camera_steps())
        row = QHBoxLayout()
        again = QPushButton("Check again")
        again.clicked.connect(self.check)
        ready = QPushButton("Go on")
        ready.setObjectName("primary")
        ready.clicked.connect(self._done)
        row.addStretch(1)
        row.addWidget(again)
        row.addWidget(ready)
        column.addLayout(row)
        self.check()

    def _list(self) -> QScrollArea:
        inside = QWidget()
        inside.setObjectName("column")
        self._grid = QGridLayout(inside)
        self._grid.setColumnStretch(2, 1)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(8)
        self._grid.setAlignment(Qt.AlignmentFlag.AlignTop)
        return scrolling(inside)

    @staticmethod
    def _camera_steps() -> QWidget:
        frame, column = panel("THE VIRTUAL CAMERA, IN TWO STEPS")
        for i, (words, command) in enumerate(CAMERA_STEPS.get(sys.platform, CAMERA_STEPS["linux"]), 1):
            text = f"{i}. {words}" + (f"<br><code>{html.escape(command)}</code>" if command else "")
            label = QLabel(text)
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            column.addWidget(label)
        return frame

    def check(self) -> None:
        """Asks the doctor again."""
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        self.answers = []
        self._state.setText("Checking; this takes some seconds, and you can go on meanwhile.")
        if self._doctor is not None:  # whatever it still has to say is not for this list
            self._doctor.answered.disconnect()
            self._doctor.finished.disconnect()
        self._doctor = Doctor()
        self._doctor.answered.connect(self._show_answer)
        self._doctor.finished.connect(self._all_there)
        self._doctor.ask()

    def _show_answer(self, answer: Check) -> None:
        self.answers.append(answer)
        if answer.part in UNINTERESTING or (answer.ok and answer.found.startswith("not here")):
            return
        row = self._grid.rowCount()
        mark = QLabel("✓" if answer.ok else "!")
        mark.setObjectName("good" if answer.ok else "mend")
        mark.setAlignment(Qt.AlignmentFlag.AlignCenter)
        mark.setFixedWidth(20)
        mark.setAccessibleName("in order" if answer.ok else "needs attention")
        part = QLabel(answer.part.capitalize())
        found = html.escape(_first_up(answer.found))
        if answer.mend and not answer.ok:
            mend = "The two steps below set one up" if "camera" in answer.part else for_the_window(answer.mend)
            found += f"<br><span style='color: {self._quiet}'>{html.escape(_first_up(mend))}</span>"
        words = Wrapped(found)
        self._grid.addWidget(mark, row, 0, Qt.AlignmentFlag.AlignTop)
        self._grid.addWidget(part, row, 1, Qt.AlignmentFlag.AlignTop)
        self._grid.addWidget(words, row, 2)

    def _all_there(self) -> None:
        wrong = sum(not answer.ok for answer in self.answers)
        self._state.setText(
            "Everything is in order."
            if not wrong
            else f"{wrong} need{'s' * (wrong == 1)} attention; the rest is in order."
        )
        self.finished_checking.emit()

    def _done(self) -> None:
        self._bridge.settings.first_run_done = True
        self.close()
