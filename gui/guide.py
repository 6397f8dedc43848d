"""New avatar from my video: the steps in order; the preparation runs here and is watched, training may run elsewhere."""

import shlex
import sys
from pathlib import Path

from PyQt6.QtCore import QProcess, Qt
from PyQt6.QtGui import QCloseEvent, QFontDatabase
from PyQt6.QtWidgets import (
    QApplication,
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

from gui.widgets import panel

FILM = """Five to twenty minutes of speech: head and shoulders, one face, light from the front, a plain background. Speak in all
six moods, with pauses. Put the files into one folder; what is said in x.mp4 may stand in x.txt beside it."""
PREPARE = "The face is found, cut out and measured; what cannot be used is named with the reason."
TRAIN = """On a computer with time or a GPU. What your voice does to a face is learned from your videos; the faces themselves are
the drawn ones of the bundled cast: a photographed face cannot be painted yet."""
IMPORT = "Then choose <b>More, Import avatar</b>, or drop the .avatar folder on the window."
CONSENT = "Only film people who have agreed to it: an avatar carries who it shows and that they consented."


def prepare_command(source: str, out: str) -> list[str]:
    """The preparation as a command line."""
    return [sys.executable, "-m", "training.data.prepare", source, out, "--matte"]


def training_commands(source: str) -> list[list[str]]:
    """What makes an avatar from a folder of videos once it is prepared, in order."""
    corpus, sound, voice, face = (
        f"{source}-prepared",
        f"{source}-runs/sound",
        f"{source}-runs/voice",
        f"{source}-runs/face",
    )
    steps = (
        ("training.stages.cpc", "--audio", corpus, "--out", sound),
        ("training.stages.talker", "--corpus", corpus, "--cpc", sound, "--lookahead", "0", "4", "8", "--out", voice),
        ("training.stages.stills", "--out", face, "--frames", "400"),
        ("training.stages.composer", "--run.out", face, "--run.steps", "4000"),
        ("export.onnx", face, voice, "-o", f"{source}.avatar"),
    )
    return [["python", "-m", *step] for step in steps]


class GuidePage(QDialog):
    """Runs the preparation as a process of its own and shows what it says."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("New avatar from my video")
        self.resize(760, 720)
        column = QVBoxLayout(self)
        column.setContentsMargins(22, 18, 22, 18)
        column.setSpacing(10)
        title = QLabel("New avatar from my video")
        title.setObjectName("title")
        column.addWidget(title)
        column.addWidget(self._step("1. FILM YOURSELF", FILM))
        column.addWidget(self._prepare_step(), 2)
        column.addWidget(self._train_step(), 1)
        column.addWidget(self._step("4. IMPORT", IMPORT))
        consent = _words(CONSENT)
        consent.setProperty("quiet", True)
        column.addWidget(consent)
        self.process = QProcess(self)
        self.process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
        self.process.readyReadStandardOutput.connect(self._read)
        self.process.finished.connect(self._ended)
        self.process.errorOccurred.connect(self._failed)
        self.source.textChanged.connect(self._words_changed)
        self._words_changed()

    @staticmethod
    def _step(title: str, words: str) -> QWidget:
        frame, column = panel(title)
        column.addWidget(_words(words))
        return frame

    def _prepare_step(self) -> QWidget:
        frame, column = panel("2. PREPARE")
        column.addWidget(_words(PREPARE))
        self.source = QLineEdit()
        self.source.setPlaceholderText("Folder with your videos")
        self.source.setAccessibleName("Folder with your videos")
        pick = QPushButton("Choose folder")
        pick.clicked.connect(self._pick)
        self.go = QPushButton("Prepare")
        self.go.setAutoDefault(False)
        self.go.clicked.connect(self._start_or_stop)
        row = QHBoxLayout()
        row.addWidget(self.source, 1)
        row.addWidget(pick)
        row.addWidget(self.go)
        column.addLayout(row)
        self.log = _box("What the preparation says")
        self.log.setMaximumBlockCount(2000)
        self.log.setPlaceholderText("What the preparation says")
        column.addWidget(self.log, 1)
        return frame

    def _train_step(self) -> QWidget:
        frame, column = panel("3. TRAIN")
        column.addWidget(_words(TRAIN))
        self.commands = _box("The commands for training")
        column.addWidget(self.commands, 1)
        copy = QPushButton("Copy the commands")
        copy.clicked.connect(self._copy)
        column.addWidget(copy, 0, Qt.AlignmentFlag.AlignRight)
        return frame

    def _folder(self) -> str:
        return str(Path(self.source.text() or "videos"))

    def _words_changed(self) -> None:
        self.commands.setPlainText("\n".join(shlex.join(words) for words in training_commands(self._folder())))

    def _copy(self) -> None:
        board = QApplication.clipboard()
        if board is not None:
            board.setText(self.commands.toPlainText() + "\n")

    def _pick(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder with your videos")
        if path:
            self.source.setText(path)

    def _start_or_stop(self) -> None:
        if self.process.state() != QProcess.ProcessState.NotRunning:
            self.process.terminate()
            return
        if not self.source.text() or not Path(self.source.text()).is_dir():
            self.log.appendPlainText(f"There is no folder {self.source.text()!r}: choose the one with your videos.")
            return
        program, *words = prepare_command(self._folder(), f"{self._folder()}-prepared")
        self.process.start(program, words)
        self.go.setText("Stop")

    def _read(self) -> None:
        text = bytes(self.process.readAllStandardOutput().data()).decode("utf-8", "replace")
        self.log.appendPlainText(text.rstrip("\n"))

    def _failed(self) -> None:
        self.go.setText("Prepare")
        self.log.appendPlainText(self.process.errorString())

    def _ended(self, status: int) -> None:
        self.go.setText("Prepare")
        self.log.appendPlainText("Done." if status == 0 else f"Ended with status {status}; the lines above say why.")

    def closeEvent(self, event: QCloseEvent | None) -> None:
        if self.process.state() != QProcess.ProcessState.NotRunning:
            self.process.terminate()
            self.process.waitForFinished(2000)
        super().closeEvent(event)


def _words(text: str) -> QLabel:
    label = QLabel(text.replace("\n", " "))
    label.setWordWrap(True)
    return label


def _box(name: str) -> QPlainTextEdit:
    box = QPlainTextEdit()
    box.setReadOnly(True)
    box.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
    box.setAccessibleName(name)
    box.setTabChangesFocus(True)
    return box
