"""The devices to choose from, in words and as the engine's names."""

from engine import MouthpieceError
from engine.audio import portaudio
from engine.backends import BACKENDS
from engine.outputs.virtual_camera import virtual_cameras
from engine.start import SAMPLE

Choices = dict[str, list[tuple[str, str]]]


def device_choices() -> Choices:
    """For each device setting, (words, value) in the order shown. What cannot be listed is left out, never an error."""
    mics: list[tuple[str, str]] = [("System default", "")]
    monitors: list[tuple[str, str]] = [("Off", "none")]
    try:
        for device in portaudio.devices():
            if device.inputs > 0:
                mics.append((f"{device.name}  ({device.host})", str(device)))
            if device.outputs > 0:
                monitors.append((f"{device.name}  ({device.host})", str(device)))
    except MouthpieceError:
        pass
    if SAMPLE.is_file():
        mics.append(("Bundled sample (no microphone)", str(SAMPLE)))
    mics.append(("Off", "none"))
    cameras = [("First virtual camera", ""), *((camera.name, camera.path) for camera in virtual_cameras())]
    backends = [("Automatic", "auto"), *((name, name) for name in BACKENDS)]
    return {"mic": mics, "monitor": monitors, "camera": cameras, "backend": backends}


def has_microphone() -> bool:
    """Whether any microphone is there."""
    try:
        return any(device.inputs > 0 for device in portaudio.devices())
    except MouthpieceError:
        return False
