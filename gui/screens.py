"""`python -m gui.screens OUT`: pictures of the app for its page: idle, speaking, first start and lost devices, in both themes and
two sizes.

On a machine without a display: xvfb-run -a -s "-screen 0 1920x1200x24" python -m gui.screens OUT
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

import tyro
from PyQt6 import sip
from PyQt6.QtCore import QTimer
from PyQt6.QtWidgets import QApplication

from engine import MouthpieceError, default_avatar, open_avatar
from engine.start import SAMPLE
from gui.app import leave_if_stuck
from gui.bridge import Bridge
from gui.first_run import FirstRunPage
from gui.settings import Settings
from gui.window import Window

SETTLE_MS = 6000  # for a lost device to be told, and for eyes that blink to open again
QUALITY = 82
SCENES: dict[str, tuple[int, dict[str, object]]] = {  # tab on show, settings
    "idle": (1, {"mic": "none", "on_air": False, "happy": 0.0, "yaw": 8.0}),
    "speaking": (0, {"mic": str(SAMPLE), "on_air": False, "happy": 0.5, "yaw": 0.0}),
    "first-run": (0, {"mic": str(SAMPLE), "on_air": False, "happy": 0.0}),
    "lost": (2, {"mic": "USB headset", "camera": "OBS", "on_air": True}),
}


@dataclass(frozen=True)
class Arguments:
    """Takes pictures of the app, as JPEG files named app-SCENE-THEME-WIDTH.jpg."""

    out: Annotated[Path, tyro.conf.Positional]
    scenes: tuple[str, ...] = tuple(SCENES)
    themes: tuple[str, ...] = ("dark", "light")
    sizes: tuple[str, ...] = ("1280x800", "1920x1200")
    avatar: Path | None = None
    """An avatar pack; the bundled one if not given."""


class Photographer:
    """Goes from scene to scene on Qt's thread; the first waits for the face."""

    def __init__(self, window: Window, arguments: Arguments) -> None:
        self.window, self.arguments = window, arguments
        self.wanted: Iterator[tuple[str, str, str]] = product(arguments.scenes, arguments.sizes, arguments.themes)
        self._page: FirstRunPage | None = None

    def begin(self) -> None:
        if self.window.preview.painted:
            self.next()
        else:
            QTimer.singleShot(100, self.begin)

    def next(self) -> None:
        if self._page is not None:
            self._page.close()
            self._page = None
        following = next(self.wanted, None)
        if following is None:
            self.window.close()
            QApplication.quit()
            return
        scene, size, theme = following
        width, height = (int(side) for side in size.split("x"))
        tab, settings = SCENES[scene]
        self.window.set_theme(theme)
        self.window.resize(width, height)
        self.window.move(0, 0)
        self.window.tabs.setCurrentIndex(tab)
        self.window.bridge.act(dict(settings))
        path = self.arguments.out / f"app-{scene}-{theme}-{width}.jpg"
        if scene == "first-run":
            self._page = FirstRunPage(self.window.bridge, self.window)
            self._page.finished_checking.connect(lambda: self.settle(path))
            self._page.show()
        else:
            self.settle(path)

    def settle(self, path: Path) -> None:
        QTimer.singleShot(SETTLE_MS, lambda: self.take(path))

    def take(self, path: Path) -> None:
        screen = QApplication.primaryScreen()
        size = self.window.size()
        picture = (
            screen.grabWindow(sip.voidptr(0), 0, 0, size.width(), size.height())
            if screen is not None
            else self.window.grab()
        )
        if not picture.save(str(path), "JPEG", QUALITY):
            print(f"error: {path} could not be written", file=sys.stderr)
        print(path)
        self.next()


def main() -> int:
    """Takes the pictures; returns the exit status."""
    arguments = tyro.cli(Arguments, prog="python -m gui.screens")
    unknown = set(arguments.scenes) - set(SCENES)
    if unknown:
        print(f"error: no such scene: {', '.join(sorted(unknown))}; there are: {', '.join(SCENES)}", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mouthpiece-screens-") as folder:
        os.environ["MOUTHPIECE_CONFIG"] = folder
        app = QApplication(sys.argv[:1])
        try:
            avatar = open_avatar(arguments.avatar or default_avatar())
        except MouthpieceError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        bridge = Bridge(Settings(first_run_done=True))
        window = Window(bridge)
        window.show()
        bridge.open(avatar)
        bridge.look_for_devices(anew=False)
        begin: Callable[[], None] = Photographer(window, arguments).begin
        QTimer.singleShot(0, begin)
        status = app.exec()
    leave_if_stuck(bridge, status)
    return status


if __name__ == "__main__":
    sys.exit(main())
