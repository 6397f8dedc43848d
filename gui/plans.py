"""Plans for TensorRT, built by `python -m export.trt` in a process of its own while the face goes on on another back end."""

import json
import sys
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QObject, QProcess, QTimer, pyqtSignal

from gui.state import Preparing

GRAPHS = ("audio_encoder", "frame_decoder")
"""What is built, in this order."""
PATIENCE_MS = 15_000  # for TensorRT to reach its next step and stop there; what it timed is kept then
NO_REASON = "the build of the plans ended without a reason"


def build_command(pack: Path) -> list[str]:
    """The build as a command line; plans that are there already are only checked."""
    return [sys.executable, "-m", "export.trt", str(pack), "--progress-json"]


def _said(line: str) -> dict[str, Any]:
    """One line of the child's (docs/tensorrt.md, "For programs"); empty for what is none."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def read_line(line: str, before: Preparing) -> Preparing | None:
    """How far the build is after one line of the child's: `{"graph": "frame_decoder", "graph_share": 0.62, "phase": ...}`
    or `{"built": "frame_decoder", ...}`. None for any other line.
    """
    said, shares = _said(line), dict(before.shares)
    if said.get("built") in shares:
        return Preparing(tuple({**shares, said["built"]: 1.0}.items()), "", before.stopping)
    graph, share = said.get("graph"), said.get("graph_share")
    if graph not in shares or not isinstance(share, int | float):
        return None
    shares[graph] = max(shares[graph], min(1.0, float(share)))
    _, _, phase = str(said.get("phase", "")).partition(": ")
    return Preparing(tuple(shares.items()), phase, before.stopping)


class PlanBuilding(QObject):
    """One build at a time. `changed` carries a `Preparing` or None; then `built` comes, or `failed` with the reason in a
    line (empty if it was stopped by the person), and `said` with all that the child complained of.
    """

    changed = pyqtSignal(object)
    built = pyqtSignal()
    failed = pyqtSignal(str)
    said = pyqtSignal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.state: Preparing | None = None
        self._heard, self._complaints, self._reason = b"", b"", ""
        self._process = QProcess(self)
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.readyReadStandardError.connect(self._read_complaints)
        self._process.finished.connect(self._ended)
        self._process.errorOccurred.connect(self._not_started)
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self._process.kill)

    def start(self, pack: Path) -> None:
        """Begins; a build under way goes on."""
        if self.state is not None:
            return
        self._heard, self._complaints, self._reason = b"", b"", ""
        program, *words = build_command(pack)
        self._show(Preparing(tuple((name, 0.0) for name in GRAPHS)))
        self._process.start(program, words)

    def cancel(self) -> None:
        """Asks the build to stop; it is ended if it does not."""
        if self.state is None or self.state.stopping:
            return
        self._show(Preparing(self.state.shares, self.state.phase, True))
        self._process.write(b"cancel\n")  # TensorRT stops at its next step, and what was timed until then is kept
        self._patience.start(PATIENCE_MS)

    def close(self) -> None:
        """Ends the build with the window."""
        if self.state is not None:
            self.state = None
            self._process.kill()
            self._process.waitForFinished(2000)

    def _show(self, state: Preparing | None) -> None:
        self.state = state
        self.changed.emit(state)

    def _read(self) -> None:
        *lines, self._heard = (self._heard + bytes(self._process.readAllStandardOutput().data())).split(b"\n")
        for line in (line.decode("utf-8", "replace") for line in lines):
            self._reason = str(_said(line).get("failed", self._reason))
            state = read_line(line, self.state) if self.state is not None else None
            if state is not None:
                self._show(state)

    def _read_complaints(self) -> None:
        self._complaints += bytes(self._process.readAllStandardError().data())

    def _not_started(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self._complaints += self._process.errorString().encode()
            self._ended(1)

    def _ended(self, status: int) -> None:
        state = self.state
        self._patience.stop()
        if state is None:
            return
        self._show(None)
        words = self._complaints.decode("utf-8", "replace").strip()
        if words and not state.stopping:
            self.said.emit(words[-4000:])
        if state.stopping:
            self.failed.emit("")
        elif status == 0 and self._process.exitStatus() == QProcess.ExitStatus.NormalExit:
            self.built.emit()
        else:
            self.failed.emit(self._reason or (words.splitlines() or [NO_REASON])[-1].removeprefix("error: "))
