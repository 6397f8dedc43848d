"""Knobs from outside: a page to switch OSC and MIDI on, and to say which controller moves what."""

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import (
    QCheckBox,
    QDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from gui.inputs import midi_ports
from gui.outside import DEFAULT_PORT, LOOPBACK, Outside
from gui.state import RANGES
from gui.widgets import Choice, panel

KNOBS = {
    "anger": "Anger", "disgust": "Disgust", "fear": "Fear", "happy": "Happy", "sad": "Sad", "intensity": "Strength of moods",
    "auto_emotion": "Mood from voice", "yaw": "Turn", "pitch": "Nod", "roll": "Tilt", "gaze_yaw": "Eyes sideways",
    "gaze_pitch": "Eyes up and down", "blink_per_minute": "Blinks", "idle": "Idle motion", "zoom": "Zoom",
    "offset_x": "Sideways", "offset_y": "Height",
}  # fmt: skip


class OutsidePage(QDialog):
    """Shows what `outside` does and says what the person wants of it."""

    def __init__(self, outside: Outside, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Knobs from outside")
        self._outside = outside
        column = QVBoxLayout(self)
        column.setContentsMargins(22, 18, 22, 18)
        column.setSpacing(10)
        title = QLabel("Knobs from outside")
        title.setObjectName("title")
        column.addWidget(title)
        column.addWidget(self._osc_part())
        column.addWidget(self._midi_part())
        column.addStretch(1)
        outside.changed.connect(self._show)
        self._show()
        self.resize(560, self.sizeHint().height())

    def _osc_part(self) -> QWidget:
        frame, column = panel("OSC")
        self.osc = QCheckBox("Listen for OSC on port")
        self.port = QSpinBox()
        self.port.setRange(1024, 65535)
        self.port.setValue(DEFAULT_PORT)
        self.port.setAccessibleName("OSC port")
        self.port.setKeyboardTracking(False)
        self.port.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        self.port.setFixedWidth(72)
        self.osc_words = _quiet()
        row = QHBoxLayout()
        row.addWidget(self.osc)
        row.addWidget(self.port)
        row.addStretch(1)
        column.addLayout(row)
        column.addWidget(self.osc_words)
        if self._outside.host == LOOPBACK:
            column.addWidget(_quiet("Only programs on this computer are heard; --osc-host opens it to others."))
        self.osc.clicked.connect(self._osc_wished)
        self.port.valueChanged.connect(self._osc_wished)
        return frame

    def _midi_part(self) -> QWidget:
        frame, column = panel("MIDI")
        names, why_none = midi_ports()
        self.midi = Choice("MIDI input")
        self.midi.addItem("Off", "")
        for name in names:
            self.midi.addItem(name, name)
        self.midi.activated.connect(lambda i: self._outside.listen_midi(self.midi.itemData(i)))
        self.midi_words = _quiet()
        self.knob = Choice("Setting that the controller moves")
        for setting in RANGES:
            self.knob.addItem(KNOBS[setting], setting)
        self.knob.currentIndexChanged.connect(self._show)
        self.learn = QPushButton("Learn")
        self.learn.setToolTip("Press, then move the controller that this setting shall follow")
        self.learn.clicked.connect(lambda: self._outside.learn(self.knob.currentData()))
        self.forget = QPushButton("Forget")
        self.forget.clicked.connect(lambda: self._outside.forget(self.knob.currentData()))
        self.number = QLabel()
        row = QHBoxLayout()
        row.addWidget(self.knob, 1)
        row.addWidget(self.number)
        row.addWidget(self.learn)
        row.addWidget(self.forget)
        column.addWidget(self.midi)
        column.addWidget(self.midi_words)
        column.addLayout(row)
        self._why_none = why_none or ("" if names else "No MIDI input found: plug one in and open this page again.")
        return frame

    def _osc_wished(self) -> None:
        self._outside.listen_osc(self.port.value() if self.osc.isChecked() else 0)

    def _show(self) -> None:
        outside = self._outside
        port, name = outside.wanted
        for part in (self.osc, self.port):
            part.blockSignals(True)
        self.osc.setChecked(bool(port))
        if port:
            self.port.setValue(port)
        for part in (self.osc, self.port):
            part.blockSignals(False)
        self.osc_words.setText(outside.osc_words)
        if self.midi.findData(name) < 0:
            self.midi.addItem(f"{name} (missing)", name)
        self.midi.setCurrentIndex(self.midi.findData(name))
        self.midi_words.setText(outside.midi_words if name else self._why_none or outside.midi_words)
        setting = self.knob.currentData()
        number = outside.controller_of(setting)
        waiting = outside.learning == setting
        self.number.setText("move it now" if waiting else "none" if number is None else f"controller {number}")
        self.learn.setEnabled(bool(name) and not waiting)
        self.forget.setEnabled(number is not None)


def _quiet(words: str = "") -> QLabel:
    label = QLabel(words)
    label.setWordWrap(True)
    label.setProperty("quiet", True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
