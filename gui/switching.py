"""Which back end runs the face. TensorRT is switched to when its plans are built; what does not run here is taken back."""

from collections.abc import Callable
from pathlib import Path

from PyQt6.QtCore import QObject, pyqtSignal

from gui.plans import PlanBuilding
from gui.state import Preparing

PLANNED = "tensorrt"
"""The back end that needs plans, as the settings name it; its reports begin with `TensorRT`."""
STAYS = "The face goes on as it is."
Tell = Callable[[str, str], None]


class Switching(QObject):
    """Decides what a wish for a back end means. `ready`: TensorRT may be switched to now."""

    ready = pyqtSignal()
    preparing_changed = pyqtSignal(object)

    def __init__(self, parent: QObject, tell: Tell, note: Callable[[str], None]) -> None:
        super().__init__(parent)
        self._tell = tell
        self.building = PlanBuilding(self)
        self.building.changed.connect(self.preparing_changed.emit)
        self.building.said.connect(note)
        self.building.built.connect(self.ready.emit)
        self.building.failed.connect(self._not_built)

    @property
    def preparing(self) -> Preparing | None:
        """The build that is under way."""
        return self.building.state

    def wish(self, backend: str, present: str, pack: Path) -> str:
        """The back end to have until `ready` says otherwise, for one that was chosen; `present` runs now."""
        if backend == PLANNED != present:
            self.building.start(pack)
            return present
        self.building.cancel()
        return backend

    def refused(self, reason: str) -> None:
        """Tells that the engine did not take a back end, or an avatar."""
        self.building.cancel()
        self._tell("Engine", f"That does not work here: {reason.removesuffix('.')}. {STAYS}")

    def fell_back(self, backend: str, reason: str) -> None:
        """Tells that a remembered back end did not even start."""
        self._tell("Engine", f"{backend} does not run here any more ({reason}). The engine is chosen by itself now.")

    def _not_built(self, reason: str) -> None:
        if reason:
            self._tell("TensorRT", f"{_first_up(reason)}. {STAYS}")


def _first_up(words: str) -> str:
    return words[:1].upper() + words[1:].removesuffix(".")
