"""Knobs from outside: OSC over UDP and MIDI controllers, both turned into the same settings that the panels change.

OSC: `/mouthpiece/<setting> value` with the names of `gui.state.Intent` (`/mouthpiece/happy 0.7`, `/mouthpiece/yaw -10`), and
`/mouthpiece/preset "name"`. The server listens on the loopback address unless another is asked for.
Threads: callbacks run on the server's or the driver's thread; `sink` must be safe to call from there (the bridge queues).
"""

import threading
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import ThreadingOSCUDPServer

from gui.state import RANGES, Intent

Sink = Callable[[str, Any], None]
_SETTABLE = {f.name for f in fields(Intent)} - {
    "on_air",
    "recording",
    "image",
    "mic",
    "monitor",
    "camera",
    "backend",
    "quality",
}

CONTROL_CHANGE = 0xB0


def osc_setting(address: str, arguments: tuple[Any, ...]) -> tuple[str, Any] | None:
    """(setting, value) of an OSC message, or None when it is not ours or makes no sense."""
    parts = address.strip("/").split("/")
    if len(parts) != 2 or parts[0] != "mouthpiece" or not arguments:
        return None
    name, value = parts[1], arguments[0]
    if name == "preset":
        return ("preset", value) if isinstance(value, str) else None
    if name not in _SETTABLE:
        return None
    if name in RANGES:
        return (name, float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if isinstance(getattr(Intent(), name), bool):
        return name, bool(value)
    return (name, value) if isinstance(value, str) else None


def midi_setting(message: list[int], mapping: dict[int, str]) -> tuple[str, Any] | None:
    """(setting, value) of a control-change message under `mapping` (controller number -> setting); 0..127 covers the range."""
    if len(message) != 3 or message[0] & 0xF0 != CONTROL_CHANGE:
        return None
    name = mapping.get(message[1])
    if name is None or name not in RANGES:
        return None
    low, high = RANGES[name]
    return name, low + (high - low) * message[2] / 127


class OscInput:
    """An OSC server on its own thread; `close()` ends it. Raises OSError when the port is taken."""

    def __init__(self, sink: Sink, port: int, host: str = "127.0.0.1") -> None:
        dispatcher = Dispatcher()

        def receive(address: str, *arguments: Any) -> None:
            setting = osc_setting(address, arguments)
            if setting is not None:
                sink(*setting)

        dispatcher.set_default_handler(receive)
        self._server = ThreadingOSCUDPServer((host, port), dispatcher)
        self._thread = threading.Thread(target=self._server.serve_forever, name="osc", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=2)


def midi_ports() -> tuple[list[str], str]:
    """(names of MIDI inputs, why there are none)."""
    try:
        import rtmidi
    except ImportError:
        return [], "MIDI needs the package python-rtmidi: pip install 'mouthpiece[midi]'"
    try:
        return list(rtmidi.MidiIn().get_ports()), ""
    except rtmidi.RtMidiError as error:
        return [], f"MIDI is not available: {error}"


class MidiInput:
    """One MIDI input, opened by name; raises ValueError naming what is there when it is not found."""

    def __init__(
        self, sink: Sink, port_name: str, mapping: dict[int, str], moved: Callable[[int], None] = lambda number: None
    ) -> None:
        """`mapping` is looked at for every message; `moved` is called with a controller's number before that."""
        import rtmidi

        try:
            self._midi = rtmidi.MidiIn()
        except rtmidi.RtMidiError as error:
            raise ValueError(f"MIDI is not available: {error}") from None
        names = list(self._midi.get_ports())
        if port_name not in names:
            raise ValueError(f"no MIDI input named {port_name!r}; found: {', '.join(names) or 'none'}")

        def receive(event: tuple[list[int], float], _data: object) -> None:
            message = event[0]
            if len(message) == 3 and message[0] & 0xF0 == CONTROL_CHANGE:
                moved(message[1])
            setting = midi_setting(message, mapping)
            if setting is not None:
                sink(*setting)

        self._midi.open_port(names.index(port_name))
        self._midi.set_callback(receive)

    def close(self) -> None:
        self._midi.close_port()
