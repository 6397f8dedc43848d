"""`python -m engine doctor`: looks at every part that a live face needs and says how to mend what is missing."""

import importlib.metadata
import json
import platform
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from engine.animator import Animator
from engine.audio import portaudio
from engine.audio.files import read_speech
from engine.avatar import Avatar, default_avatar, open_avatar
from engine.backends import BACKENDS, open_backend
from engine.compose import Composer
from engine.controls import Background, Controls, Framing
from engine.devices import DIRECTIONS
from engine.errors import AudioError, AvatarError, BackendError, MouthpieceError, OutputError
from engine.outputs.virtual_camera import find_camera
from engine.start import SAMPLE, has_display
from engine.stats import Histogram

FRAME_MS = 1000 / 30
SPEED_SECONDS = 4
NEEDED = ("openvino", "onnxruntime")  # one of these; the absence of other back ends is no fault


@dataclass(frozen=True)
class Check:
    """One part: whether it is in order, what was found, and how to mend it if it is not."""

    part: str
    ok: bool
    found: str
    mend: str = ""


def checks(avatar: Path | None = None) -> Iterator[Check]:
    """Looks at one part after the other; the last takes a few seconds. Never raises."""
    yield Check("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _sound()
    yield _camera()
    usable = yield from _backends()
    yield _display()
    opened, check = _avatar(avatar)
    yield check
    if opened is not None and usable:
        yield _speed(opened)


def _sound() -> Iterator[Check]:
    try:
        found = portaudio.devices()
    except AudioError as error:
        what, _, mend = str(error).partition(": ")
        yield Check("sound", False, what, mend)
        return
    hosts = sorted({device.host for device in found})
    yield Check("sound", True, f"PortAudio with {len(found)} devices" + (f" ({', '.join(hosts)})" if hosts else ""))
    for direction in DIRECTIONS:
        noun = portaudio.NOUN[direction]
        try:
            device = portaudio.find("", direction)
            yield Check(noun, True, f"{device}, {device.rate} Hz")
        except AudioError as error:
            what, _, mend = str(error).partition(": ")
            yield Check(noun, False, what, mend + ("; or use a file: --mic FILE.wav" if direction == "input" else ""))


def _camera() -> Check:
    try:
        device = find_camera("")
    except OutputError as error:
        what, _, mend = str(error).partition(": ")
        return Check("virtual camera", False, what, mend)
    version = importlib.metadata.version("pyvirtualcam")
    return Check("virtual camera", True, f"{device}, pyvirtualcam {version}")


def _backends() -> Generator[Check, None, bool]:
    """One line for each back end; whether any can be used."""
    usable = False
    for name in BACKENDS:
        try:
            open_backend(name)
        except BackendError as error:
            absent = name not in NEEDED or usable
            found = f"not here, and not needed: {error}" if absent else str(error)
            yield Check(f"back end {name}", absent, found, "" if absent else f"pip install {name}")
        else:
            usable = True
            yield Check(f"back end {name}", True, "ready")
    return usable


def _display() -> Check:
    if not has_display():
        return Check(
            "display", False, "none", "log in to a desktop, or use python -m engine live and render without a window"
        )
    try:
        return Check("display", True, f"PyQt6 {importlib.metadata.version('PyQt6')}")
    except importlib.metadata.PackageNotFoundError:
        return Check("display", False, "PyQt6 is not installed", "pip install 'mouthpiece[gui]'")


def _avatar(path: Path | None) -> tuple[Avatar | None, Check]:
    try:
        avatar = open_avatar(path or default_avatar())
    except AvatarError as error:
        what, _, mend = str(error).rpartition("; ")
        return None, Check("avatar", False, what or str(error), mend if what else "")
    count = len(avatar.manifest.files)
    return avatar, Check("avatar", True, f"{avatar.name}: {count} files have their digests; {', '.join(avatar.people)}")


def _speed(avatar: Avatar) -> Check:
    """Animates a few seconds as fast as it goes: a frame with everything in it must take well under 33 ms."""
    try:
        samples = read_speech(SAMPLE)[: SPEED_SECONDS * 16000] if SAMPLE.is_file() else _noise()
        animator = Animator(avatar)
    except MouthpieceError as error:
        return Check("speed", False, str(error), "see the back ends above")
    composer, each = Composer(), Histogram()
    began_s = time.perf_counter()
    try:
        for at in range(0, len(samples), 160):
            animator.push(samples[at : at + 160])
            while animator.frames_due():
                frame = animator.next_frame(Controls())
                composer.compose(frame.rgba, Background(), Framing())
                now_s = time.perf_counter()
                each.add(1000 * (now_s - began_s))
                began_s = now_s
    except MouthpieceError as error:
        return Check("speed", False, str(error), "see the back ends above")
    finally:
        animator.close()
    usual, slow = each.quantile(0.5), each.quantile(0.95)
    found = f"{usual:.0f} ms a frame, 95% under {slow:.0f} ms (budget {FRAME_MS:.0f} ms) with {animator.backend}"
    mend = "close other programs, send fewer frames (--fps 15), or use a graphics card with TensorRT"
    return Check("speed", slow < FRAME_MS, found, "" if slow < FRAME_MS else mend)


def _noise() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(0, 0.1, SPEED_SECONDS * 16000).astype(np.float32)


def command(avatar: Path | None = None, as_json: bool = False) -> int:
    """Checks every part and says how to mend what is missing; the exit status is 1 if something is.

    Args:
        avatar: The avatar pack to check; without it, the bundled one.
        as_json: Print one JSON list instead of lines.
    """
    done: list[Check] = []
    out = Console()
    for check in checks(avatar):
        done.append(check)
        if not as_json:
            mark = "[green]ok  [/]" if check.ok else "[red]mend[/]"
            out.print(mark, f"{check.part}:", end=" ")
            out.print(check.found, markup=False, highlight=False, soft_wrap=True)
            if not check.ok and check.mend:
                out.print(f"     -> {check.mend}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps([asdict(check) for check in done], indent=2))
    return 0 if all(check.ok for check in done) else 1
