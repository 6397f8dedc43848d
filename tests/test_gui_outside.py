"""Knobs from outside: the page switches a real OSC server on and off, and teaches which controller moves what."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PyQt6", reason="the gui extra is not installed")
pytest.importorskip("pytestqt", reason="the dev extra is not installed")

from pythonosc.udp_client import SimpleUDPClient

from gui.bridge import Bridge
from gui.outside import Outside
from gui.outside_page import KNOBS, OutsidePage
from gui.settings import Settings
from gui.state import RANGES

PATIENCE_MS = 60_000


@pytest.fixture
def bridge(qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bridge]:
    monkeypatch.setenv("MOUTHPIECE_CONFIG", str(tmp_path))
    made = Bridge(Settings())
    yield made
    made.close()


@pytest.fixture
def outside(bridge: Bridge) -> Iterator[Outside]:
    made = Outside(bridge)
    yield made
    made.close()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_osc_is_switched_on_the_page_and_moves_the_face(qtbot: Any, bridge: Bridge, outside: Outside) -> None:
    page = OutsidePage(outside)
    qtbot.addWidget(page)
    port = free_port()
    page.port.setValue(port)
    assert bridge.settings.osc_port == 0  # a port alone switches nothing on
    page.osc.click()
    assert f"port {port}" in page.osc_words.text()
    client = SimpleUDPClient("127.0.0.1", port)
    client.send_message("/mouthpiece/happy", 0.7)
    qtbot.waitUntil(lambda: bridge.intent.happy == pytest.approx(0.7), timeout=PATIENCE_MS)
    client._sock.close()
    page.osc.click()
    assert (bridge.settings.osc_port, page.osc_words.text()) == (0, "Off")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", port))  # given back


def test_a_port_that_is_taken_is_told(qtbot: Any, bridge: Bridge, outside: Outside) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        bridge.settings.osc_port = int(one.getsockname()[1])
        with qtbot.waitSignal(bridge.message) as told:
            outside.begin()
    assert "cannot be used" in told.args[1]


def test_a_midi_input_that_is_not_there_is_told_and_stays_chosen(qtbot: Any, bridge: Bridge, outside: Outside) -> None:
    bridge.settings.midi_port = "No such controller"
    with qtbot.waitSignal(bridge.message) as told:
        outside.begin()
    assert "MIDI" in told.args[1]
    page = OutsidePage(outside)
    qtbot.addWidget(page)
    assert page.midi.currentText() == "No such controller (missing)"
    assert page.midi_words.text()


def test_a_knob_is_taught(qtbot: Any, bridge: Bridge, outside: Outside) -> None:
    assert set(KNOBS) == set(RANGES)
    bridge.settings.midi_map[21] = "yaw"
    bridge.settings.midi_port = "Desk"
    page = OutsidePage(outside)
    qtbot.addWidget(page)
    page.knob.setCurrentIndex(page.knob.findData("yaw"))
    assert page.number.text() == "controller 21"
    page.learn.click()
    assert page.number.text() == "move it now"
    outside._moved.emit(40)  # as from the driver's thread
    qtbot.waitUntil(lambda: page.number.text() == "controller 40", timeout=PATIENCE_MS)
    outside._moved.emit(41)  # nobody asked
    assert bridge.settings.midi_map == {40: "yaw"}
    page.forget.click()
    assert bridge.settings.midi_map == {}
    assert not page.forget.isEnabled()
    with pytest.raises(ValueError, match="no knob"):
        outside.learn("person")
