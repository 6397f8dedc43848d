"""Puts the app together: settings, avatar, bridge, window, inputs from outside, first-run page."""

import os
import signal
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from PyQt6.QtCore import QTimer
from PyQt6.QtWidgets import QApplication, QMessageBox

from engine import Avatar, MouthpieceError, default_avatar, open_avatar
from engine.start import SAMPLE
from gui.bridge import Bridge
from gui.choices import has_microphone
from gui.outside import Outside
from gui.settings import Settings, load, settings_path
from gui.window import Window

if TYPE_CHECKING:
    from gui.__main__ import Arguments


def run(arguments: "Arguments") -> int:
    """Opens the window and runs the event loop; returns the exit status. One clear line on stderr when it cannot start."""
    from gui.__main__ import app_version

    app = QApplication(sys.argv[:1])
    app.setApplicationName("Mouthpiece")
    app.setDesktopFileName("mouthpiece")
    settings, complaint = load(settings_path())
    try:
        avatar = _avatar(arguments.avatar, settings)
    except MouthpieceError as error:
        print(f"error: {error}", file=sys.stderr)
        QMessageBox.critical(None, "Mouthpiece", str(error))
        return 1
    bridge = Bridge(settings, version=app_version())
    _first_wishes(bridge, arguments)
    if complaint:
        bridge.journal.note(complaint)
    window = Window(bridge)
    window.resize(window.sizeHint())
    window.show()
    outside = _outside(bridge, arguments)
    bridge.wants_first_run.connect(lambda: _show_first_run(bridge, window))
    bridge.wants_guide.connect(lambda: _show_guide(window))
    bridge.wants_outside.connect(lambda: _show_outside(outside, window))
    _survive(bridge, window)
    bridge.open(avatar)
    bridge.look_for_devices(anew=False)
    if not settings.first_run_done:
        QTimer.singleShot(800, bridge.wants_first_run.emit)
    status = app.exec()
    outside.close()
    leave_if_stuck(bridge, status)
    return status


def leave_if_stuck(bridge: Bridge, status: int) -> None:
    """Ends the process at once if the engine did not stop, or somebody still asks the doctor or the devices: the libraries
    they are in abort when they are taken down while they run.
    """
    if bridge.still_running:
        print("the engine did not stop in ten seconds; leaving without it", file=sys.stderr)
    asking = any(thread.daemon and thread.is_alive() for thread in threading.enumerate())
    if bridge.still_running or asking:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _avatar(asked: Path | None, settings: Settings) -> Avatar:
    """The avatar asked for, else the remembered one if it still verifies, else the bundled one. Raises `AvatarError`."""
    if asked is not None:
        return open_avatar(asked)
    if settings.avatar:
        try:
            return open_avatar(settings.avatar)
        except MouthpieceError as error:
            print(f"the avatar used last does not open ({error}); using the bundled one", file=sys.stderr)
            settings.avatar = ""
    return open_avatar(default_avatar())


def _first_wishes(bridge: Bridge, arguments: "Arguments") -> None:
    if arguments.person:
        bridge.intent = replace(bridge.intent, person=arguments.person)
    if arguments.mic is not None:
        bridge.intent = replace(bridge.intent, mic=arguments.mic)
    elif not bridge.intent.mic and not has_microphone() and SAMPLE.is_file():
        bridge.intent = replace(bridge.intent, mic=str(SAMPLE))
        bridge.journal.note("no microphone found: the face speaks the bundled sample")


def _show_first_run(bridge: Bridge, window: Window) -> None:
    from gui.first_run import FirstRunPage  # what is not on the first page is imported when it is asked for

    FirstRunPage(bridge, window).show()


def _show_guide(window: Window) -> None:
    from gui.guide import GuidePage

    GuidePage(window).show()


def _show_outside(outside: Outside, window: Window) -> None:
    from gui.outside_page import OutsidePage

    OutsidePage(outside, window).show()


def _outside(bridge: Bridge, arguments: "Arguments") -> Outside:
    settings = bridge.settings
    if arguments.osc_port is not None:
        settings.osc_port = arguments.osc_port
    if arguments.midi is not None:
        settings.midi_port = arguments.midi
    outside = Outside(bridge, arguments.osc_host)
    outside.begin()
    return outside


def _survive(bridge: Bridge, window: Window) -> None:
    """A mistake in a slot is told and logged, never fatal; Ctrl-C closes the window in order."""

    def told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        bridge.journal.note("".join(traceback.format_exception(kind, error, trace))[-2000:])
        print(f"{kind.__name__}: {error}", file=sys.stderr)

    sys.excepthook = told
    signal.signal(signal.SIGINT, lambda *_: window.close())
    signal.signal(signal.SIGTERM, lambda *_: window.close())
