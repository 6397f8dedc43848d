"""The first page: every part checked, and the virtual camera explained for this system in two steps."""

import sys
import threading

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from engine.doctor import Check, checks
from gui.bridge import Bridge

CAMERA_STEPS = {
    "linux": (
        "Install the driver: sudo apt install v4l2loopback-dkms",
        'Load it: sudo modprobe v4l2loopback devices=1 card_label="Mouthpiece" exclusive_caps=1',
    ),
    "darwin": (
        "Install OBS Studio, start its virtual camera once and allow it in System Settings, Privacy and Security.",
        "Quit OBS and press Start camera here; choose “OBS Virtual Camera” in your meeting.",
    ),
    "win32": (
        "Install OBS Studio; its virtual camera comes with it.",
        "Press Start camera here; choose “OBS Virtual Camera” in your meeting.",
    ),
}


class FirstRunPage(QDialog):
    """Runs the doctor on a thread of its own and shows each answer as it comes."""

    answered = pyqtSignal(object)
    finished_checking = pyqtSignal()

    def __init__(self, bridge: Bridge, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Is everything ready?")
        self.resize(640, 520)
        self._bridge = bridge
        self.answers: list[Check] = []
        column = QVBoxLayout(self)
        title = QLabel("Is everything ready?")
        title.setObjectName("title")
        column.addWidget(title)
        column.addWidget(QLabel("Speak, and the face speaks with you. Nothing you say or show leaves this computer."))
        self._grid = QGridLayout()
        self._grid.setColumnStretch(2, 1)
        column.addLayout(self._grid)
        self._state = QLabel("Checking the parts ...")
        self._state.setProperty("quiet", True)
        column.addWidget(self._state)
        column.addStretch(1)
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
        self.answered.connect(self._show_answer)
        self.finished_checking.connect(self._all_there)
        self.check()

    @staticmethod
    def _camera_steps() -> QWidget:
        steps = CAMERA_STEPS.get(sys.platform, CAMERA_STEPS["linux"])
        text = "<br>".join(f"{i}. {step}" for i, step in enumerate(steps, 1))
        label = QLabel(f"<b>The virtual camera, in two steps</b><br>{text}")
        label.setWordWrap(True)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        return label

    def check(self) -> None:
        """Asks the doctor again."""
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        self.answers = []
        self._state.setText("Checking the parts ...")

        def ask() -> None:
            try:
                for answer in checks():
                    self.answered.emit(answer)
                self.finished_checking.emit()
            except RuntimeError:
                pass  # the page was closed meanwhile, and Qt has taken it away

        threading.Thread(target=ask, name="doctor", daemon=True).start()

    def _show_answer(self, answer: Check) -> None:
        row = len(self.answers)
        self.answers.append(answer)
        mark = QLabel("✓" if answer.ok else "!")
        mark.setAccessibleName("in order" if answer.ok else "needs attention")
        words = QLabel(answer.found + (f"\n{answer.mend}" if answer.mend and not answer.ok else ""))
        words.setWordWrap(True)
        words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._grid.addWidget(mark, row, 0, Qt.AlignmentFlag.AlignTop)
        self._grid.addWidget(QLabel(answer.part.capitalize()), row, 1, Qt.AlignmentFlag.AlignTop)
        self._grid.addWidget(words, row, 2)

    def _all_there(self) -> None:
        wrong = sum(not answer.ok for answer in self.answers)
        self._state.setText(
            "Everything is in order." if not wrong else f"{wrong} of {len(self.answers)} need attention."
        )

    def _done(self) -> None:
        self._bridge.settings.first_run_done = True
        self.close()
