"""Keys that work while another window has the focus, where the platform lets an application ask for exactly those keys.

X11: the key is grabbed (python-xlib); Windows: `RegisterHotKey`. Neither lets this program see any other key. Elsewhere
(Wayland, macOS) `obstacle` says why not, and keys work while the app has the focus.
"""

import contextlib
import importlib
import importlib.util
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from PyQt6.QtCore import QKeyCombination, Qt
from PyQt6.QtGui import QKeySequence

Sink = Callable[[str], None]
REPEAT_S = 0.3  # presses closer than this are the key's own repetition
TAKEN = "{keys} is taken by another program: it works here only while Mouthpiece has the focus"
UNFIT = "{keys} cannot be used everywhere: take a letter, a digit or F1 to F24 with Ctrl, Alt or the system key"


def obstacle(platform: str) -> str:
    """Why keys cannot work everywhere under Qt's `platform` (xcb, wayland, windows, cocoa ...), or an empty string."""
    if platform == "windows":
        return ""
    if platform == "xcb":
        if importlib.util.find_spec("Xlib") is None:
            return "keys that work everywhere need the package python-xlib: pip install python-xlib"
        return ""
    names = {"wayland": "Wayland", "cocoa": "macOS"}
    return f"{names.get(platform, platform)} does not let a program take keys while another window has the focus"


def key_of(keys: str) -> tuple[int, Qt.KeyboardModifier] | None:
    """(Qt's key, modifiers) of one chord such as `Ctrl+Alt+1`; None for what should not be taken from every program."""
    sequence = QKeySequence(keys)
    if sequence.count() != 1:
        return None
    chord: QKeyCombination = sequence[0]
    key, held = int(chord.key()), chord.keyboardModifiers()
    function = int(Qt.Key.Key_F1) <= key <= int(Qt.Key.Key_F24)
    strong = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier | Qt.KeyboardModifier.MetaModifier
    plain = key < 0x80 and chr(key).isalnum()
    return (key, held) if function or (plain and held & strong) else None


class X11Keys:
    """Keys grabbed on the root window over a connection of its own; `close()` gives them back."""

    def __init__(self, sink: Sink, keys: Mapping[str, str], display: str | None = None) -> None:
        """`keys`: chord -> the name that `sink` is called with, on a thread of its own. Raises OSError without a server."""
        # By name: it brings no types, and a machine without it should find no fault with this file.
        x, names, errors = (importlib.import_module(f"Xlib.{part}") for part in ("X", "XK", "error"))
        try:
            self._display: Any = importlib.import_module("Xlib.display").Display(display)
        except errors.DisplayError as error:
            raise OSError(f"the X server does not answer: {error}") from None
        self._sink, self._names, self.complaints = sink, dict[tuple[int, int], str](), list[str]()
        root = self._display.screen().root
        locks = (0, x.LockMask, x.Mod2Mask, x.LockMask | x.Mod2Mask)  # Caps and Num Lock make other chords
        self._mask, self._press = x.ControlMask | x.ShiftMask | x.Mod1Mask | x.Mod4Mask, x.KeyPress
        for words, name in keys.items():
            chord = key_of(words)
            if chord is None:
                self.complaints.append(UNFIT.format(keys=words))
                continue
            code = self._display.keysym_to_keycode(_keysym(chord[0], names))
            held = _x_modifiers(chord[1], x)
            refused = errors.CatchError(errors.BadAccess)
            for lock in locks if code else ():
                root.grab_key(code, held | lock, False, x.GrabModeAsync, x.GrabModeAsync, onerror=refused)
            self._display.sync()
            if not code or refused.get_error():
                self.complaints.append(TAKEN.format(keys=words))
            else:
                self._names[code, held] = name
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="keys", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        closed = importlib.import_module("Xlib.error").ConnectionClosedError
        with contextlib.suppress(closed, OSError):  # the screen went, and the window with it
            self._listen()

    def _listen(self) -> None:
        pressed_s: dict[tuple[int, int], float] = {}
        while True:
            while self._display.pending_events():
                event = self._display.next_event()
                chord = (event.detail, event.state & self._mask) if event.type == self._press else (0, 0)
                name, now_s = self._names.get(chord), time.monotonic()
                if name is not None:
                    if now_s - pressed_s.get(chord, -1.0) > REPEAT_S:
                        self._sink(name)
                    pressed_s[chord] = now_s
            if self._wake in select.select([self._display.fileno(), self._wake], [], [])[0]:
                return

    def close(self) -> None:
        os.write(self._waker, b"x")
        self._thread.join(timeout=2)
        with contextlib.suppress(OSError):
            self._display.close()
        os.close(self._wake)
        os.close(self._waker)


def _keysym(key: int, names: Any) -> int:
    first = int(Qt.Key.Key_F1)
    return int(names.XK_F1) + key - first if key >= first else ord(chr(key).lower())


def _x_modifiers(held: Qt.KeyboardModifier, x: Any) -> int:
    pairs = (
        (Qt.KeyboardModifier.ControlModifier, x.ControlMask), (Qt.KeyboardModifier.ShiftModifier, x.ShiftMask),
        (Qt.KeyboardModifier.AltModifier, x.Mod1Mask), (Qt.KeyboardModifier.MetaModifier, x.Mod4Mask),
    )  # fmt: skip
    return sum(mask for modifier, mask in pairs if held & modifier)


class WindowsKeys:
    """Keys registered with Windows for a thread that waits for their messages; `close()` gives them back."""

    HOTKEY, QUIT, NO_REPEAT = 0x0312, 0x0012, 0x4000  # WM_HOTKEY, WM_QUIT, MOD_NOREPEAT

    def __init__(self, sink: Sink, keys: Mapping[str, str]) -> None:
        self._sink, self._keys, self.complaints = sink, dict(keys), list[str]()
        self._ready, self._thread_id = threading.Event(), 0
        self._thread = threading.Thread(target=self._listen, name="keys", daemon=True)
        self._thread.start()
        self._ready.wait(timeout=2)

    def _listen(self) -> None:
        import ctypes
        from ctypes import wintypes

        user: Any = ctypes.windll.user32  # type: ignore[attr-defined]
        self._thread_id = int(ctypes.windll.kernel32.GetCurrentThreadId())  # type: ignore[attr-defined]
        names = list(self._keys.items())
        for number, (words, _) in enumerate(names):
            chord = key_of(words)
            if chord is None:
                self.complaints.append(UNFIT.format(keys=words))
            elif not user.RegisterHotKey(
                None, number, _win_modifiers(chord[1]) | self.NO_REPEAT, _virtual_key(chord[0])
            ):
                self.complaints.append(TAKEN.format(keys=words))
        self._ready.set()
        message = wintypes.MSG()
        while user.GetMessageW(ctypes.byref(message), None, 0, 0) > 0:
            if message.message == self.HOTKEY:
                self._sink(names[message.wParam][1])
        for number in range(len(names)):
            user.UnregisterHotKey(None, number)

    def close(self) -> None:
        import ctypes

        ctypes.windll.user32.PostThreadMessageW(self._thread_id, self.QUIT, 0, 0)  # type: ignore[attr-defined]
        self._thread.join(timeout=2)


def _virtual_key(key: int) -> int:
    """Windows' virtual-key code: letters and digits are their ASCII capitals, F1 is 0x70."""
    first = int(Qt.Key.Key_F1)
    return 0x70 + key - first if key >= first else ord(chr(key).upper())


def _win_modifiers(held: Qt.KeyboardModifier) -> int:
    pairs = (
        (Qt.KeyboardModifier.AltModifier, 0x1), (Qt.KeyboardModifier.ControlModifier, 0x2),
        (Qt.KeyboardModifier.ShiftModifier, 0x4), (Qt.KeyboardModifier.MetaModifier, 0x8),
    )  # fmt: skip
    return sum(mask for modifier, mask in pairs if held & modifier)


def take_keys(sink: Sink, keys: Mapping[str, str]) -> X11Keys | WindowsKeys:
    """Takes the keys everywhere. Raises OSError when the system cannot be asked; ask `obstacle` first."""
    return WindowsKeys(sink, keys) if sys.platform == "win32" else X11Keys(sink, keys)
