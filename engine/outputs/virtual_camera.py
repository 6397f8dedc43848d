"""The virtual camera that meeting software sees: v4l2loopback on Linux, OBS or Unity Capture elsewhere, through
pyvirtualcam.
"""

import os
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import OutputError

# linux/videodev2.h: _IOR('V', 0, struct v4l2_capability), _IOW('V', 18, int), V4L2_BUF_TYPE_VIDEO_OUTPUT,
# V4L2_CAP_VIDEO_OUTPUT
QUERY_CAPABILITIES, STREAM_ON, VIDEO_OUTPUT, CAN_OUTPUT = 0x80685600, 0x40045612, 2, 0x00000002
LOOPBACK_DRIVER = "v4l2 loopback"
MEND = {
    "linux": (
        "install it with: sudo apt install v4l2loopback-dkms, then load it with: "
        'sudo modprobe v4l2loopback devices=1 card_label="Mouthpiece" exclusive_caps=1'
    ),
    "darwin": "install OBS (https://obsproject.com), start its virtual camera, allow it in System Settings, quit OBS",
    "win32": "install OBS (https://obsproject.com); its virtual camera comes with it and needs no set-up",
}
ELSEWHERE = "use --camera none to go on without one"


class Camera(Protocol):
    """Where the paced frames go. All methods belong to the camera thread."""

    name: str

    def send(self, picture: NDArray[np.uint8]) -> None:
        """Hands over `[H, W, 3]` uint8 RGB, always of the size the camera was opened with. Raises `OutputError` if the
        device is gone.
        """

    def close(self) -> None:
        """Gives the device back."""


@dataclass(frozen=True)
class CameraDevice:
    """A virtual camera that frames can be sent to: what people call it, and what the driver calls it."""

    name: str
    path: str

    def __str__(self) -> str:
        return f"{self.name} ({self.path})" if self.path != self.name else self.name


class VirtualCamera:
    """One open pyvirtualcam device of a fixed size. Camera thread only."""

    def __init__(self, device: CameraDevice, width: int, height: int, fps: float) -> None:
        module = _pyvirtualcam()
        if sys.platform == "linux":
            revive_loopback(device.path)
        try:
            self._camera = module.Camera(width, height, fps, fmt=module.PixelFormat.RGB, device=device.path)
        except (RuntimeError, OSError) as error:
            raise OutputError(_refusal(device, str(error))) from None
        self.name, self._path = device.name, device.path

    def send(self, picture: NDArray[np.uint8]) -> None:
        """Hands one RGB frame to the driver, which copies it."""
        # pyvirtualcam only prints a failed write, so a device that was taken away has to be noticed here.
        if sys.platform == "linux" and not os.path.exists(self._path):
            raise OutputError(f"the camera {self.name} ({self._path}) is gone; it is opened again when it is back")
        try:
            self._camera.send(picture)
        except (RuntimeError, OSError) as error:
            raise OutputError(
                f"the camera {self.name} refused a frame ({error}); it is opened again when it is back"
            ) from None

    def close(self) -> None:
        with suppress(RuntimeError, OSError):
            self._camera.close()


def virtual_cameras() -> list[CameraDevice]:
    """The cameras that frames could be sent to, in the system's order; empty if there is none or no way to look."""
    if sys.platform == "linux":
        found = []
        for entry in sorted(Path("/sys/class/video4linux").glob("video*"), key=lambda p: int("0" + p.name[5:])):
            path = f"/dev/{entry.name}"
            if (answer := _capabilities(path)) and answer[0] == LOOPBACK_DRIVER:
                found.append(CameraDevice((entry / "name").read_text(encoding="utf-8", errors="replace").strip(), path))
        return found
    # Elsewhere the drivers cannot be listed without opening them: what pyvirtualcam has a back end for is what may be
    # there.
    try:
        backends = list(_pyvirtualcam().camera.BACKENDS)
    except OutputError:
        return []
    names = {"obs": "OBS Virtual Camera", "unitycapture": "Unity Video Capture"}
    return [CameraDevice(names[backend], names[backend]) for backend in backends if backend in names]


def find_camera(name: str) -> CameraDevice:
    """The first camera whose name or path contains `name` (any, for ""). Raises `OutputError` listing what there is."""
    _pyvirtualcam()
    cameras = virtual_cameras()
    wanted = name.casefold()
    for camera in cameras:
        if wanted in camera.name.casefold() or wanted == camera.path:
            return camera
    if cameras:
        listed = ", ".join(str(camera) for camera in cameras)
        raise OutputError(f"no virtual camera is called {name!r}; there are: {listed}; or {ELSEWHERE}")
    raise OutputError(f"no virtual camera found: {mending()}; or {ELSEWHERE}")


def mending() -> str:
    """How to get a virtual camera on this operating system."""
    return MEND.get(sys.platform, "this operating system has no virtual camera that pyvirtualcam knows")


def revive_loopback(path: str) -> bool:
    """True if the loopback device `path` accepts a writer, made to do so if need be.

    v4l2loopback 0.12 with exclusive_caps=1 announces neither direction after a writer left that never called STREAMON,
    and pyvirtualcam never does, so a second session would find no camera. STREAMON from a fresh opener marks that one
    as a writer, and closing it makes the device offer OUTPUT again. Newer drivers never get here. Source: v4l2loopback
    issues 442 and 470.
    """
    answer = _capabilities(path)
    if answer is None or answer[0] != LOOPBACK_DRIVER:
        return False
    if not answer[1] & CAN_OUTPUT:
        import fcntl  # not on Windows

        with suppress(OSError):  # EINVAL (no buffers yet) is answered after the opener was marked
            handle = os.open(path, os.O_RDWR)
            try:
                fcntl.ioctl(handle, STREAM_ON, struct.pack("i", VIDEO_OUTPUT))
            finally:
                os.close(handle)
        answer = _capabilities(path)
    return bool(answer and answer[1] & CAN_OUTPUT)


def _capabilities(path: str) -> tuple[str, int] | None:
    """(driver, device capabilities) of a V4L2 device, None if it cannot be asked."""
    import fcntl  # not on Windows

    try:
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return None
    answer = bytearray(104)
    try:
        fcntl.ioctl(handle, QUERY_CAPABILITIES, answer)
    except OSError:
        return None
    finally:
        os.close(handle)
    return answer[:16].split(b"\0")[0].decode(errors="replace"), struct.unpack_from("I", answer, 88)[0]


def _refusal(device: CameraDevice, reason: str) -> str:
    if sys.platform == "linux" and device.path.startswith("/dev/") and not os.access(device.path, os.R_OK | os.W_OK):
        return (
            f"no permission to write to {device}: add yourself to the group video, or run: sudo chmod 666 {device.path}"
        )
    first = " ".join(reason.split())
    return f"the camera {device} cannot be opened ({first}); close any other program that sends to it"


def _pyvirtualcam() -> Any:
    try:
        import pyvirtualcam
    except ImportError as error:
        raise OutputError(
            f"the camera needs the package pyvirtualcam ({error}): pip install pyvirtualcam; or {ELSEWHERE}"
        ) from None
    return pyvirtualcam
