"""The virtual camera: what the driver is asked, what people are told, and, where there is a real one, what a reader
sees.
"""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import OutputError
from engine.outputs import virtual_camera as vc
from engine.outputs.null import NullCamera

BED = Path(__file__).parent / "beds" / "camera_bed.py"


class LoopbackDriver:
    """v4l2loopback 0.12 with exclusive_caps=1, as far as its ioctls go: it forgets a writer that never said STREAMON."""

    def __init__(self, driver: str = "v4l2 loopback", output: bool = True) -> None:
        self.driver, self.output = driver, output
        self.writers: set[int] = set()
        self.handles = 0
        self.open_handles: set[int] = set()

    def open(self, path: str, flags: int) -> int:
        self.handles += 1
        self.open_handles.add(self.handles)
        return self.handles

    def close(self, handle: int) -> None:
        self.open_handles.remove(handle)
        if handle in self.writers:
            self.writers.remove(handle)
            self.output = True

    def ioctl(self, handle: int, request: int, argument: bytearray | bytes) -> int:
        assert handle in self.open_handles
        if request == vc.QUERY_CAPABILITIES:
            assert isinstance(argument, bytearray)
            argument[: len(self.driver)] = self.driver.encode()
            struct.pack_into("I", argument, 88, vc.CAN_OUTPUT if self.output else 0)
            return 0
        assert (request, argument) == (vc.STREAM_ON, struct.pack("i", 2))
        self.writers.add(handle)
        raise OSError(22, "Invalid argument")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> LoopbackDriver:
    fcntl = pytest.importorskip("fcntl", reason="v4l2 is Linux's")
    found = LoopbackDriver()
    monkeypatch.setattr(vc.os, "open", found.open)
    monkeypatch.setattr(vc.os, "close", found.close)
    monkeypatch.setattr(fcntl, "ioctl", found.ioctl)
    return found


def test_a_forgotten_writer_is_revived(driver: LoopbackDriver) -> None:
    driver.output = False
    assert vc.revive_loopback("/dev/video0")
    assert driver.output
    assert not driver.open_handles, "every handle is closed again"


def test_a_device_in_order_is_left_alone(driver: LoopbackDriver) -> None:
    assert vc.revive_loopback("/dev/video0")
    assert driver.handles == 1


def test_other_cameras_are_not_touched(driver: LoopbackDriver) -> None:
    driver.driver, driver.output = "uvcvideo", False
    assert not vc.revive_loopback("/dev/video0")
    assert not driver.writers


@pytest.fixture
def two_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyvirtualcam", reason="needs pyvirtualcam (extra: camera)")
    found = [vc.CameraDevice("Mouthpiece", "/dev/video4"), vc.CameraDevice("OBS Cam", "/dev/video10")]
    monkeypatch.setattr(vc, "virtual_cameras", lambda: found)


@pytest.mark.usefixtures("two_cameras")
def test_cameras_are_found_by_a_part_of_their_name_or_their_path() -> None:
    assert vc.find_camera("").path == "/dev/video4"
    assert vc.find_camera("obs").path == "/dev/video10"
    assert vc.find_camera("/dev/video10").name == "OBS Cam"
    with pytest.raises(
        OutputError, match=r"no virtual camera is called 'zoom'; there are: Mouthpiece \(/dev/video4\), OBS"
    ):
        vc.find_camera("zoom")


@pytest.mark.parametrize(
    ("system", "word"), [("linux", "v4l2loopback-dkms"), ("darwin", "System Settings"), ("win32", "OBS")]
)
def test_a_missing_camera_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, system: str, word: str) -> None:
    pytest.importorskip("pyvirtualcam", reason="needs pyvirtualcam (extra: camera)")
    monkeypatch.setattr(vc, "virtual_cameras", list)
    monkeypatch.setattr(vc.sys, "platform", system)
    with pytest.raises(OutputError, match=word) as error:
        vc.find_camera("")
    assert "--camera none" in str(error.value)
    assert "\n" not in str(error.value)


def test_without_pyvirtualcam_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(OutputError, match="pip install pyvirtualcam"):
        vc.find_camera("")


def test_a_camera_that_is_not_a_loopback_is_refused_with_the_drivers_words(tmp_path: Path) -> None:
    pytest.importorskip("pyvirtualcam", reason="needs pyvirtualcam (extra: camera)")
    if sys.platform != "linux":
        pytest.skip("opens a Linux device file")
    device = vc.CameraDevice("Nothing", str(tmp_path / "video0"))
    with pytest.raises(OutputError, match=r"the camera Nothing \(.*\) cannot be opened") as error:
        vc.VirtualCamera(device, 640, 480, 30.0)
    assert "\n" not in str(error.value)


def test_the_null_camera_counts_and_keeps_its_size() -> None:
    camera = NullCamera(64, 32)
    camera.send(np.zeros((32, 64, 3), np.uint8))
    assert camera.frames == 1
    with pytest.raises(ValueError, match="64x32 RGB, found a frame of shape"):
        camera.send(np.zeros((64, 32, 3), np.uint8))


@pytest.mark.device
def test_a_reader_gets_the_frames_of_a_real_camera_in_order() -> None:
    if not vc.virtual_cameras():
        pytest.skip("no v4l2loopback device here; docs/testbeds.md tells how to get one")
    for session in range(2):
        done = subprocess.run([sys.executable, str(BED)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"session {session}: {done.stdout}\n{done.stderr}"
