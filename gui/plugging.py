"""Devices that come and go: a cheap look now and then, and a thorough one, on a thread of its own, when something changed."""

import threading
import time

from PyQt6.QtCore import QObject, pyqtSignal

from gui.choices import device_choices, plugged

LOOK_AGAIN_S = 20.0  # where plugging cannot be seen: how often coming back to the window may look


class Plugging(QObject):
    """Says what there is to choose. Qt's thread, all of it.

    It has no parent: the thread that asks keeps it alive, so that an answer that comes after the window went falls
    flat instead of on memory that Qt gave back.
    """

    found = pyqtSignal(dict)

    def __init__(self) -> None:
        super().__init__()
        self.looking = False
        self._plugged = plugged()
        self._looked_s = -LOOK_AGAIN_S
        self.found.connect(self._found)

    def look(self, anew: bool = True) -> None:
        """Asks the system what is there; the answer comes as `found`. `anew` sees what came since the app started."""
        if self.looking:
            return
        self.looking, self._looked_s = True, time.monotonic()

        threading.Thread(target=lambda: self._ask(anew), name="looks for devices", daemon=True).start()

    def glance(self) -> None:
        """Looks whether something was plugged in or out; takes no time."""
        now = plugged()
        if now != self._plugged:
            self._plugged = now
            self.look()

    def came_back(self) -> None:
        """The window was activated: where plugging cannot be seen, devices are looked for now and then."""
        if not self._plugged and time.monotonic() - self._looked_s > LOOK_AGAIN_S:
            self.look()

    def _ask(self, anew: bool) -> None:
        """A thread of its own."""
        found = device_choices(anew)
        self.found.emit(found)

    def _found(self) -> None:
        self.looking = False
