"""Who listens to knobs outside: an OSC server and a MIDI input, begun and ended as the settings say, and taught which knob is which."""

from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, pyqtSignal

from gui.bridge import Bridge
from gui.state import RANGES

if TYPE_CHECKING:
    from gui.inputs import MidiInput, OscInput

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 9000


class Outside(QObject):
    """`changed`: what is listened to, or why it is not (`osc_words`, `midi_words`), or the knobs. Qt's thread, all of it."""

    changed = pyqtSignal()
    _moved = pyqtSignal(int)

    def __init__(self, bridge: Bridge, host: str = LOOPBACK) -> None:
        super().__init__()
        self._bridge, self.host = bridge, host
        self._osc: OscInput | None = None
        self._midi: MidiInput | None = None
        self.osc_words = self.midi_words = "Off"
        self.learning = ""
        self._moved.connect(self._learn_from)

    def begin(self) -> None:
        """Listens as the settings say; what cannot be had is told."""
        port, name = self.wanted
        if port and not self.listen_osc(port):
            self._bridge.message.emit("OSC", self.osc_words)
        if name and not self.listen_midi(name):
            self._bridge.message.emit("MIDI", self.midi_words)

    @property
    def wanted(self) -> tuple[int, str]:
        """(port of OSC or 0, name of the MIDI input or empty), whether they could be had or not."""
        return self._bridge.settings.osc_port, self._bridge.settings.midi_port

    def listen_osc(self, port: int) -> bool:
        """Listens on this port from now on, 0 for none; False where it cannot be had (`osc_words`)."""
        if self._osc is not None:
            self._osc.close()
            self._osc = None
        self._bridge.settings.osc_port = port
        self.osc_words = "Off"
        if port:
            from gui.inputs import OscInput  # only who listens pays for the server

            try:
                self._osc = OscInput(self._bridge.from_outside, port, self.host)
                self.osc_words = f"Listening on {self.host}, port {port}: /mouthpiece/happy 0.7"
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or error
                self.osc_words = f"Port {port} on {self.host} cannot be used: {reason}"
        self.changed.emit()
        return bool(self._osc) or not port

    def listen_midi(self, name: str) -> bool:
        """Listens to this MIDI input from now on, an empty name for none; False where it cannot be had (`midi_words`)."""
        if self._midi is not None:
            self._midi.close()
            self._midi = None
        self._bridge.settings.midi_port = name
        self.midi_words = "Off"
        if name:
            from gui.inputs import MidiInput

            try:
                knobs = self._bridge.settings.midi_map
                self._midi = MidiInput(self._bridge.from_outside, name, knobs, self._moved.emit)
                self.midi_words = f"Listening to {name}"
            except ImportError:
                self.midi_words = "MIDI needs the package python-rtmidi: pip install 'mouthpiece[midi]'"
            except (ValueError, RuntimeError) as error:
                self.midi_words = str(error)
        self.changed.emit()
        return bool(self._midi) or not name

    def learn(self, setting: str) -> None:
        """The next controller that is moved is `setting`'s from then on. Raises ValueError for what is no knob."""
        if setting not in RANGES:
            raise ValueError(f"{setting!r} is no knob; there are: {', '.join(RANGES)}")
        self.learning = setting
        self.changed.emit()

    def forget(self, setting: str) -> None:
        """No controller moves `setting` any more."""
        knobs = self._bridge.settings.midi_map
        for number in [n for n, name in knobs.items() if name == setting]:
            del knobs[number]
        self.changed.emit()

    def controller_of(self, setting: str) -> int | None:
        """The controller that moves `setting`."""
        return next((n for n, name in self._bridge.settings.midi_map.items() if name == setting), None)

    def _learn_from(self, number: int) -> None:
        if not self.learning:
            return
        setting, self.learning = self.learning, ""
        self.forget(setting)
        self._bridge.settings.midi_map[number] = setting
        self.changed.emit()

    def close(self) -> None:
        """Listens no more; what is remembered stays."""
        for part in (self._osc, self._midi):
            if part is not None:
                part.close()
        self._osc = self._midi = None
