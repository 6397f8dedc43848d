"""Finding sound devices by name, and the command that lists them, with PortAudio's answers as the system may give them."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from engine import devices as command_module
from engine.audio import portaudio
from engine.errors import AudioError
from engine.outputs.virtual_camera import CameraDevice


class Listing:
    """sounddevice as a laptop has it: two host APIs, a webcam's microphone, a headset, speakers."""

    class PortAudioError(Exception): ...

    entries = (
        ("Built-in Audio: Analog", 0, 2, 2, 44100.0),
        ("HD Webcam", 0, 1, 0, 48000.0),
        ("USB Headset", 1, 1, 2, 16000.0),
        ("Headset (loud)", 1, 0, 2, 48000.0),
    )

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "ALSA"}, {"name": "JACK"}]

    def query_devices(self, kind: str | None = None) -> Any:
        listed = [
            {
                "index": index,
                "name": name,
                "hostapi": host,
                "max_input_channels": inputs,
                "max_output_channels": outputs,
                "default_samplerate": rate,
            }
            for index, (name, host, inputs, outputs, rate) in enumerate(self.entries)
        ]
        if kind is None:
            return listed
        if not listed:
            raise ValueError("no default device")
        return listed[1 if kind == "input" else 0]


@pytest.fixture
def laptop(monkeypatch: pytest.MonkeyPatch) -> Listing:
    listing = Listing()
    monkeypatch.setattr(portaudio, "sounddevice", lambda: listing)
    return listing


@pytest.mark.parametrize(
    ("name", "direction", "found"),
    [
        ("", "input", "HD Webcam"),
        ("", "output", "Built-in Audio: Analog"),
        ("headset", "input", "USB Headset"),
        ("headset", "output", "USB Headset"),
        ("LOUD", "output", "Headset (loud)"),
        ("jack: usb headset", "input", "USB Headset"),
        ("alsa", "input", "Built-in Audio: Analog"),
    ],
)
def test_a_part_of_the_name_is_enough(laptop: Listing, name: str, direction: portaudio.Direction, found: str) -> None:
    assert portaudio.find(name, direction).name == found


def test_a_whole_name_wins_over_a_part_of_another(laptop: Listing) -> None:
    laptop.entries = (("Mic 2", 0, 1, 0, 48000.0), ("Mic", 0, 1, 0, 48000.0))
    assert portaudio.find("mic", "input").name == "Mic"


def test_a_wrong_name_lists_what_there_is(laptop: Listing) -> None:
    with pytest.raises(
        AudioError, match=r"no microphone is called 'studio'; there are: ALSA: Built-in.*; JACK: USB"
    ) as error:
        portaudio.find("studio", "input")
    assert "loud" not in str(error.value), "an output is no microphone"


def test_no_device_at_all_says_what_to_do(laptop: Listing) -> None:
    laptop.entries = ()
    with pytest.raises(AudioError, match="no output found: plug one in"):
        portaudio.find("", "output")


def test_without_portaudio_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    portaudio.sounddevice.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "sounddevice", None)
    try:
        with pytest.raises(AudioError, match="pip install sounddevice"):
            portaudio.sounddevice()
    finally:
        portaudio.sounddevice.cache_clear()


def test_the_command_lists_everything(
    laptop: Listing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = [CameraDevice("Mouthpiece", "/dev/video4")]
    monkeypatch.setattr(command_module, "virtual_cameras", lambda: cameras)
    assert command_module.command(as_json=True) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["notes"] == []
    seen = {(device["kind"], device["host"], device["name"], device["default"]) for device in listed["devices"]}
    assert ("microphone", "ALSA", "HD Webcam", True) in seen
    assert ("microphone", "JACK", "USB Headset", False) in seen
    assert ("output", "JACK", "Headset (loud)", False) in seen
    assert ("camera", "/dev/video4", "Mouthpiece", True) in seen
    assert command_module.command() == 0
    table = capsys.readouterr().out
    assert "USB Headset" in table
    assert "16000 Hz" in table


def test_the_command_says_what_is_missing(
    laptop: Listing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    laptop.entries = ()
    monkeypatch.setattr(command_module, "virtual_cameras", list)
    monkeypatch.setattr(command_module, "find_camera", SimpleNamespace)
    monkeypatch.setattr("engine.outputs.virtual_camera.virtual_cameras", list)
    from engine.outputs.virtual_camera import find_camera

    monkeypatch.setattr(command_module, "find_camera", find_camera)
    assert command_module.command() == 0
    said = capsys.readouterr().out
    assert "no microphone found" in said
    assert "no output found" in said
    assert "--camera none" in said


def test_looking_anew_asks_a_new_process() -> None:
    found, notes = command_module.looked_anew()
    assert all(isinstance(device, command_module.Listed) for device in found)
    assert {device.kind for device in found} <= {"microphone", "output", "camera"}
    assert found or notes


def test_looking_anew_falls_back_to_what_is_known(laptop: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_module.sys, "executable", "/no/such/python")
    found, _ = command_module.looked_anew()
    assert "USB Headset" in [device.name for device in found]
