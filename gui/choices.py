"""The devices to choose from, in words and as the engine's names, and a cheap look at whether something was plugged."""

import sys
from collections.abc import Sequence
from pathlib import Path

from engine import MouthpieceError
from engine.audio import portaudio
from engine.backends import BACKENDS
from engine.devices import Listed, listed, looked_anew
from engine.start import SAMPLE

Choices = dict[str, list[tuple[str, str]]]
DEV = Path("/dev")
BACKEND_WORDS = {
    "tensorrt": "TensorRT (NVIDIA)",
    "onnxruntime-tensorrt": "ONNX Runtime with TensorRT (NVIDIA)",
    "onnxruntime-cuda": "ONNX Runtime with CUDA (NVIDIA)",
    "onnxruntime-directml": "ONNX Runtime with DirectML (Windows)",
    "onnxruntime-coreml": "ONNX Runtime with Core ML (Mac)",
    "openvino": "OpenVINO (processor)",
    "onnxruntime": "ONNX Runtime (processor)",
}


def choices_of(devices: Sequence[Listed]) -> Choices:
    """For each device setting, (words, value) in the order shown."""
    mics: list[tuple[str, str]] = [("System default", "")]
    monitors: list[tuple[str, str]] = [("Off", "none")]
    cameras: list[tuple[str, str]] = [("First virtual camera", "")]
    for device in devices:
        if device.kind == portaudio.NOUN["input"]:
            mics.append((f"{device.name}  ({device.host})", f"{device.host}: {device.name}"))
        elif device.kind == portaudio.NOUN["output"]:
            monitors.append((f"{device.name}  ({device.host})", f"{device.host}: {device.name}"))
        else:
            cameras.append((device.name, device.host))
    if SAMPLE.is_file():
        mics.append(("Bundled sample (a voice)", str(SAMPLE)))
    mics.append(("Off", "none"))
    backends = [("Automatic", "auto"), *((BACKEND_WORDS.get(name, name), name) for name in BACKENDS)]
    return {"mic": mics, "monitor": monitors, "camera": cameras, "backend": backends}


def device_choices(anew: bool = False) -> Choices:
    """What there is to choose. `anew` sees what was plugged in since the start, and takes a second: not for the window's
    own thread. What cannot be listed is left out, never an error.
    """
    devices, _ = looked_anew() if anew else listed()
    return choices_of(devices)


def plugged(folder: Path = DEV) -> tuple[str, ...]:
    """The sound and video devices that the system has now, as Linux names them; always empty elsewhere. Takes no time."""
    if not sys.platform.startswith("linux"):
        return ()
    return tuple(sorted(path.name for pattern in ("snd/*", "video*") for path in folder.glob(pattern)))


def has_microphone() -> bool:
    """Whether any microphone is there."""
    try:
        return any(device.inputs > 0 for device in portaudio.devices())
    except MouthpieceError:
        return False
