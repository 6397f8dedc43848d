"""The sound devices of this computer, by host API and name, through PortAudio.

PortAudio fixes its list when it is initialised and forgets all streams when it is shut down, so everything that opens,
lists or restarts goes through one lock, and `restart` may only be called when no stream of ours is open.
"""

import ctypes
import ctypes.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from engine.errors import AudioError

LOCK = threading.RLock()
Direction = Literal["input", "output"]
NOUN = {"input": "microphone", "output": "output"}


@dataclass(frozen=True)
class SoundDevice:
    """One entry of PortAudio's list. `rate` is the device's own sampling rate in Hz."""

    index: int
    name: str
    host: str
    inputs: int
    outputs: int
    rate: int
    is_default: dict[Direction, bool]

    def channels(self, direction: Direction) -> int:
        return self.inputs if direction == "input" else self.outputs

    def __str__(self) -> str:
        return f"{self.host}: {self.name}"


@cache
def sounddevice() -> Any:
    """The sounddevice module. Raises `AudioError` with what to install when PortAudio is missing."""
    _hush_alsa()
    try:
        import sounddevice as module
    except ImportError as error:
        raise AudioError(f"sound devices need the package sounddevice ({error}): pip install sounddevice") from None
    except OSError:
        raise AudioError("sound devices need the PortAudio library: sudo apt install libportaudio2") from None
    return module


def devices() -> list[SoundDevice]:
    """Every device PortAudio knew of when it was last initialised. Raises `AudioError` without PortAudio."""
    module = sounddevice()
    with LOCK:
        try:
            hosts, entries = module.query_hostapis(), module.query_devices()
        except module.PortAudioError as error:
            raise AudioError(f"the sound system does not answer ({error})") from None
        defaults: dict[Direction, int] = {"input": _default(module, "input"), "output": _default(module, "output")}
    found = []
    for entry in entries:
        is_default: dict[Direction, bool] = {side: index == entry["index"] for side, index in defaults.items()}
        rate = round(entry["default_samplerate"]) or 48000
        channels = entry["max_input_channels"], entry["max_output_channels"]
        found.append(
            SoundDevice(entry["index"], entry["name"], hosts[entry["hostapi"]]["name"], *channels, rate, is_default)
        )
    return found


def _default(module: Any, direction: Direction) -> int:
    """PortAudio's index of the default device, -1 if there is none."""
    try:
        return int(module.query_devices(kind=direction)["index"])
    except (module.PortAudioError, ValueError):
        return -1


def find(name: str, direction: Direction) -> SoundDevice:
    """The device whose `host: name` contains `name`, the default one for "". Raises `AudioError` that lists what there
    is.
    """
    noun = NOUN[direction]
    usable = [device for device in devices() if device.channels(direction) > 0]
    if not usable:
        raise AudioError(f"no {noun} found: plug one in, or check the system's sound settings")
    if not name:
        return next((device for device in usable if device.is_default[direction]), usable[0])
    wanted = name.casefold()
    exact = [device for device in usable if wanted in (device.name.casefold(), str(device).casefold())]
    partly = [device for device in usable if wanted in str(device).casefold()]
    if exact or partly:
        return (exact or partly)[0]
    listed = "; ".join(str(device) for device in usable)
    raise AudioError(f"no {noun} is called {name!r}; there are: {listed}")


def restart() -> None:
    """Makes PortAudio look at the devices anew. Only while no stream of ours is open. Raises `AudioError`."""
    module = sounddevice()
    with LOCK:
        # The only way there is: PortAudio lists devices once, and sounddevice has no public name for starting again.
        with suppress(module.PortAudioError):
            module._terminate()
        try:
            module._initialize()
        except module.PortAudioError as error:
            raise AudioError(f"the sound system does not answer ({error})") from None


@contextmanager
def quietly() -> Iterator[None]:
    """Inside, nothing reaches the terminal: Debian's PortAudio prints C expressions when a device cannot be opened.

    The error itself still comes back as an exception. Holds `LOCK`.
    """
    with LOCK:
        sys.stderr.flush()
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(nowhere)
            os.close(kept)


@cache
def _hush_alsa() -> Any:
    """Keeps libasound from writing to the terminal about cards that are not there; errors still reach us as errors."""
    if sys.platform != "linux" or not (library := ctypes.util.find_library("asound")):
        return None
    kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)
    silent = kind(lambda *_: None)
    try:
        ctypes.CDLL(library).snd_lib_error_set_handler(silent)
    except (OSError, AttributeError):
        return None
    return silent  # kept by the cache: libasound goes on calling it
