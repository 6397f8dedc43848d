"""Keys that work whatever window has the focus: pressed for real on an X server of our own."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PyQt6", reason="the gui extra is not installed")

from PyQt6.QtCore import Qt

from gui.hotkeys import TAKEN, X11Keys, key_of, obstacle

PATIENCE_MS = 60_000


def test_only_chords_that_nobody_types_are_taken() -> None:
    control = Qt.KeyboardModifier.ControlModifier
    assert key_of("Ctrl+1") == (int(Qt.Key.Key_1), control)
    assert key_of("F9") == (int(Qt.Key.Key_F9), Qt.KeyboardModifier.NoModifier)
    for typed in ("a", "Shift+A", "Return", "Ctrl+Return", "Ctrl+X, Ctrl+S", ""):
        assert key_of(typed) is None, typed


def test_where_it_cannot_be_the_reason_is_said() -> None:
    assert "Wayland" in obstacle("wayland")
    assert "macOS" in obstacle("cocoa")
    assert obstacle("offscreen")
    assert obstacle("windows") == ""


@pytest.fixture
def screen() -> Iterator[str]:
    """The name of a virtual X display."""
    pytest.importorskip("Xlib", reason="needs python-xlib")
    if not shutil.which("Xvfb"):
        pytest.skip("needs Xvfb")
    read, write = os.pipe()
    words = ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as answer:
        number = answer.readline().strip()
    if not number:
        server.wait(timeout=10)
        pytest.skip("Xvfb does not start here")
    yield f":{number}"
    server.terminate()
    server.wait(timeout=10)


class Typist:
    """A client with a window of its own that has the focus, and fingers."""

    def __init__(self, name: str) -> None:
        from Xlib import XK, X
        from Xlib.display import Display

        self.x, self.names, self.display = X, XK, Display(name)
        screen = self.display.screen()
        self.window = screen.root.create_window(0, 0, 50, 50, 0, screen.root_depth, event_mask=X.KeyPressMask)
        self.window.map()
        self.display.sync()
        self.window.set_input_focus(X.RevertToParent, X.CurrentTime)
        self.display.sync()

    def type(self, *names: str) -> None:
        from Xlib.ext import xtest

        codes = [self.display.keysym_to_keycode(self.names.string_to_keysym(name)) for name in names]
        for kind, order in ((self.x.KeyPress, codes), (self.x.KeyRelease, codes[::-1])):
            for code in order:
                xtest.fake_input(self.display, kind, code)
        self.display.sync()

    def heard(self) -> int:
        """Key presses that reached the typist's own window."""
        self.display.sync()
        events = [self.display.next_event() for _ in range(self.display.pending_events())]
        return sum(event.type == self.x.KeyPress for event in events)


def test_a_key_is_heard_while_another_window_has_the_focus(screen: str, qtbot) -> None:  # type: ignore[no-untyped-def]
    pressed: list[str] = []
    keys = X11Keys(pressed.append, {"Ctrl+1": "preset:calm", "F8": "toggle:muted", "Return": "never"}, screen)
    assert len(keys.complaints) == 1
    assert "Return" in keys.complaints[0]
    typist = Typist(screen)
    try:
        typist.type("Control_L", "1")
        qtbot.waitUntil(lambda: pressed == ["preset:calm"], timeout=PATIENCE_MS)
        typist.type("Num_Lock")
        typist.type("F8")
        qtbot.waitUntil(lambda: pressed == ["preset:calm", "toggle:muted"], timeout=PATIENCE_MS)
        typist.heard()
        typist.type("a")
        qtbot.waitUntil(lambda: typist.heard() == 1, timeout=PATIENCE_MS)  # other keys go where they always went
        other = X11Keys(pressed.append, {"Ctrl+1": "theirs"}, screen)
        assert other.complaints == [TAKEN.format(keys="Ctrl+1")]
        other.close()
    finally:
        keys.close()
    typist.heard()
    typist.type("Control_L", "1")
    qtbot.waitUntil(lambda: typist.heard() >= 1, timeout=PATIENCE_MS)  # given back
    assert len(pressed) == 2
    typist.display.close()
