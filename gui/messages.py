"""What has to be said in a box of its own. None of them stops the event loop, but for the one question at closing."""

from collections.abc import Callable

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QMessageBox, QWidget


def tell(parent: QWidget, title: str, words: str) -> None:
    """A message with nothing to decide."""
    _show(QMessageBox(QMessageBox.Icon.Information, title, words, QMessageBox.StandardButton.Ok, parent))


def engine_stopped(parent: QWidget, reason: str, restart: Callable[[], None], open_log: Callable[[], None]) -> None:
    """The engine died: says so and offers to start it again; the camera meanwhile shows a still."""
    title = "The engine stopped"
    box = QMessageBox(QMessageBox.Icon.Warning, title, title, QMessageBox.StandardButton.NoButton, parent)
    box.setInformativeText(
        f"{reason}\n\nThe camera keeps showing the last picture. Start the engine again, or save the log for a bug report."
    )
    again = box.addButton("Start again", QMessageBox.ButtonRole.AcceptRole)
    log = box.addButton("Open the log", QMessageBox.ButtonRole.ActionRole)
    box.addButton("Later", QMessageBox.ButtonRole.RejectRole)
    if again is not None:
        again.clicked.connect(restart)
    if log is not None:
        log.clicked.connect(open_log)
    _show(box)


def really_close(parent: QWidget) -> bool:
    """Whether to close although a recording is running."""
    answer = QMessageBox.question(
        parent, "Recording", "A recording is running. Stop it, keep what was recorded, and close?"
    )
    return answer == QMessageBox.StandardButton.Yes


def _show(box: QMessageBox) -> None:
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setModal(False)
    box.show()
