"""New avatar from my video: the commands in order, with a box to run the preparation and watch it; training may run elsewhere."""

import shlex
import sys
from pathlib import Path

from PyQt6.QtCore import QProcess, Qt
from PyQt6.QtGui import QCloseEvent
from PyQt6.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

STEPS = """<b>1. Film yourself.</b> Three to ten minutes of speech, one face, even light, camera at eye height;
look about and change your mood.<br>
<b>2. Prepare.</b> Choose the folder with your videos: the face is found, cut out, measured,
and anything unusable is named with the reason.<br>
<b>3. Train</b> on a computer with time or a GPU (the command stands below), then <b>import the avatar</b> in this window.<br>
<i>Only train on people who have agreed to it: the avatar carries who it shows and that they consented.</i>"""


def prepare_command(source: str, out: str) -> list[str]:
    """The preparation as a command line."""
    return [sys.executable, "-m", "training.data.prepare", source, out]


class GuidePage(QDialog):
    """Runs the preparation as a process of its own and shows what it says."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("New avatar from my video")
        self.resize(680, 520)
        column = QVBoxLayout(self)
        title = QLabel("New avatar from my video")
        title.setObjectName("title")
        column.addWidget(title)
        steps = QLabel(STEPS)
        steps.setWordWrap(True)
        column.addWidget(steps)
        self.source = QLineEdit()
        self.source.setPlaceholderText("Folder with your videos")
        self.source.setAccessibleName("Folder with your videos")
        pick = QPushButton("Choose folder")
        pick.clicked.connect(self._pick)
        row = QHBoxLayout()
        row.addWidget(self.source, 1)
        row.addWidget(pick)
        column.addLayout(row)
        self.command = QLineEdit()
        self.command.setReadOnly(True)
        self.command.setAccessibleName("The command for another computer")
        column.addWidget(self.command)
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setMaximumBlockCount(2000)
        self.log.setAccessibleName("What the preparation says")
        column.addWidget(self.log, 1)
        self.go = QPushButton("Prepare")
        self.go.setObjectName("primary")
        self.go.clicked.connect(self._start_or_stop)
        column.addWidget(self.go, 0, Qt.AlignmentFlag.AlignRight)
        self.process = QProcess(self)
        self.process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
        self.process.readyReadStandardOutput.connect(self._read)
        self.process.finished.connect(self._ended)
        self.process.errorOccurred.connect(lambda _error: self.log.appendPlainText(self.process.errorString()))
        self.source.textChanged.connect(self._words_changed)
        self._words_changed()

    def _out(self) -> str:
        source = Path(self.source.text() or "videos")
        return str(source.with_name(source.name + "-prepared"))

    def _words_changed(self) -> None:
        self.command.setText(shlex.join(prepare_command(self.source.text() or "videos", self._out())))

    def _pick(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder with your videos")
        if path:
            self.source.setText(path)

    def _start_or_stop(self) -> None:
        if self.process.state() != QProcess.ProcessState.NotRunning:
            self.process.terminate()
            return
        if not Path(self.source.text()).is_dir():
            self.log.appendPlainText(f"There is no folder {self.source.text()!r}: choose the one with your videos.")
            return
        program, *words = prepare_command(self.source.text(), self._out())
        self.process.start(program, words)
        self.go.setText("Stop")

    def _read(self) -> None:
        text = bytes(self.process.readAllStandardOutput().data()).decode("utf-8", "replace")
        self.log.appendPlainText(text.rstrip("\n"))

    def _ended(self, status: int) -> None:
        self.go.setText("Prepare")
        self.log.appendPlainText("Done." if status == 0 else f"Ended with status {status}; the lines above say why.")

    def closeEvent(self, event: QCloseEvent | None) -> None:
        if self.process.state() != QProcess.ProcessState.NotRunning:
            self.process.terminate()
            self.process.waitForFinished(2000)
        super().closeEvent(event)
