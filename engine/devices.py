"""`python -m engine devices`: the microphones, outputs and cameras of this computer, by the names that other commands
take.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from engine.audio import portaudio
from engine.errors import AudioError, OutputError
from engine.outputs.virtual_camera import find_camera, virtual_cameras

DIRECTIONS: tuple[portaudio.Direction, ...] = ("input", "output")


@dataclass(frozen=True)
class Listed:
    """One device. `host` is the host API (sound) or the path (cameras); `rate` and `channels` are 0 for cameras."""

    kind: str
    host: str
    name: str
    rate: int = 0
    channels: int = 0
    default: bool = False


def listed() -> tuple[list[Listed], list[str]]:
    """Every device, and in plain words why a kind of device could not be looked for. GUI and command line use this."""
    found: list[Listed] = []
    notes: list[str] = []
    try:
        sound = portaudio.devices()
    except AudioError as error:
        sound = []
        notes.append(str(error))
    else:
        for direction in DIRECTIONS:
            if not any(device.channels(direction) for device in sound):
                notes.append(f"no {portaudio.NOUN[direction]} found: plug one in, or check the system's sound settings")
    for direction in DIRECTIONS:
        for device in sound:
            if channels := device.channels(direction):
                chosen = device.is_default[direction]
                found.append(Listed(portaudio.NOUN[direction], device.host, device.name, device.rate, channels, chosen))
    cameras = virtual_cameras()
    found += [Listed("camera", camera.path, camera.name, default=number == 0) for number, camera in enumerate(cameras)]
    if not cameras:
        try:
            find_camera("")
        except OutputError as error:
            notes.append(str(error))
    return found, notes


def looked_anew(limit_s: float = 15.0) -> tuple[list[Listed], list[str]]:
    """As `listed`, with what was plugged in since this process started: PortAudio lists devices once in a process, so a
    short-lived one is asked. Takes a second: not for a window's own thread.
    """
    words = [sys.executable, "-m", "engine", "devices", "--as-json"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit_s, check=True)
        answer = json.loads(done.stdout)
        return [Listed(**device) for device in answer["devices"]], list(answer["notes"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return listed()


def command(as_json: bool = False) -> int:
    """Lists the microphones, outputs and virtual cameras.

    Args:
        as_json: Print one JSON object instead of a table.
    """
    found, notes = listed()
    if as_json:
        print(json.dumps({"devices": [asdict(device) for device in found], "notes": notes}, indent=2))
        return 0
    out = Console()
    table = Table("", "host or path", "name", "own rate", "channels", box=None, pad_edge=False)
    for device in found:
        rate, channels = (f"{device.rate} Hz", str(device.channels)) if device.rate else ("", "")
        table.add_row(device.kind, device.host, device.name + ("  (default)" if device.default else ""), rate, channels)
    if found:
        out.print(table)
    for note in notes:
        out.print(f"! {note}", markup=False, soft_wrap=True)
    if found:
        out.print("--mic, --monitor and --camera take any part of a name.", style="dim")
    return 0
