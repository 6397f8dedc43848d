"""Faces and their landmarks in a picture, behind one small protocol; mediapipe does the work in its own environment.

    python -m training.data.landmarks --setup

mediapipe 0.10.21 carries its models, so nothing is downloaded when it runs, but it needs numpy < 2 and stays out of
this project's environment: it runs as a child process (landmarks_worker.py), pictures over a pipe.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Protocol

import numpy as np
import tyro

ENVIRONMENT_VARIABLE = "MOUTHPIECE_LANDMARKS_PYTHON"
REQUIREMENT = "mediapipe==0.10.21"
MESH_POINTS = 478
WORKER = Path(__file__).with_name("landmarks_worker.py")
START_PROTOCOL = 1


class LandmarkError(Exception):
    """The landmark worker cannot be started or died; the message says what to do."""


class FaceLandmarker(Protocol):
    """What prepare needs of any landmark library. Pictures are [h, w, 3] uint8 RGB, upright."""

    def boxes(self, picture: np.ndarray) -> np.ndarray:
        """All faces: [m, 5] float32 rows (x, y, w, h, score), pixels."""

    def mesh(self, picture: np.ndarray) -> np.ndarray | None:
        """The one face that fills most of the picture: [478, 3] float32 pixels (z away from the camera), or None."""

    def matte(self, picture: np.ndarray) -> np.ndarray:
        """How much of each pixel is the person: [h, w] float32, 0..1."""

    def forget(self) -> None:
        """Another face, or another place in the video, comes next."""

    def close(self) -> None: ...


def environment_folder(where: Path | None = None) -> Path:
    """Where the landmarks environment lives: the argument, else the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(where) if where else Path(cache) / "mouthpiece" / "landmarks"


def find_python() -> Path:
    """The Python that has mediapipe. Raises LandmarkError with the command that makes one."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    python = Path(named) if named else _python_in(environment_folder())
    if not python.is_file():
        raise LandmarkError(
            f"no landmarks environment: expected a Python with {REQUIREMENT} at {python}; "
            f"make it with `python -m training.data.landmarks --setup` or set {ENVIRONMENT_VARIABLE}"
        )
    return python


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


class MediapipeLandmarker:
    """mediapipe's face detector (full range), face mesh with irises, and selfie matte, in a child process.

    One caller at a time. About 12 ms for a mesh and 10 ms for boxes of a 640 px picture on one core.
    """

    def __init__(self, python: Path | None = None):
        python = python or find_python()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - read back when the worker dies
        environment = {**os.environ, "GLOG_minloglevel": "2", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        try:
            self._process = subprocess.Popen(
                [str(python), "-I", str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the caller; the worker goes when its stdin closes
            )
        except OSError as error:
            self._log.close()
            raise LandmarkError(
                f"cannot run {python} ({error}); make it: python -m training.data.landmarks --setup"
            ) from error
        try:
            spoken = self._answer()
        except LandmarkError:
            self.close()
            raise
        if spoken.shape != (1, 1) or spoken[0, 0] != START_PROTOCOL:
            self.close()
            raise LandmarkError(f"the landmark worker answered {spoken!r} where protocol {START_PROTOCOL} was expected")

    def boxes(self, picture: np.ndarray) -> np.ndarray:
        return self._ask(b"B", picture)

    def mesh(self, picture: np.ndarray) -> np.ndarray | None:
        points = self._ask(b"M", picture)
        return points if len(points) == MESH_POINTS else None

    def matte(self, picture: np.ndarray) -> np.ndarray:
        return self._ask(b"A", picture)

    def forget(self) -> None:
        self._ask(b"R", np.zeros((0, 0, 3), np.uint8))

    def close(self) -> None:
        if self._process.stdin and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it is gone already
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _ask(self, what: bytes, picture: np.ndarray) -> np.ndarray:
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"expected a picture [h, w, 3] uint8, found {picture.shape} {picture.dtype}")
        height, width = picture.shape[:2]
        try:
            self._process.stdin.write(what + struct.pack("<II", height, width))
            self._process.stdin.write(np.ascontiguousarray(picture).data)
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._dead() from error
        return self._answer()

    def _answer(self) -> np.ndarray:
        head = self._process.stdout.read(8)
        if len(head) < 8:
            raise self._dead()
        rows, columns = struct.unpack("<II", head)
        data = self._process.stdout.read(rows * columns * 4)
        if len(data) < rows * columns * 4:
            raise self._dead()
        return np.frombuffer(data, np.float32).reshape(rows, columns)

    def _dead(self) -> LandmarkError:
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1] if lines else "no word of why"
        return LandmarkError(
            f"the landmark worker stopped ({last}); make its environment anew: python -m training.data.landmarks --setup"
        )


def set_up(where: Path | None = None) -> Path:
    """Makes the landmarks environment (about 1 GB) and tries it. Returns its Python; raises LandmarkError."""
    final = environment_folder(where)
    if final.exists() and not _python_in(final).is_file() and any(final.iterdir()):
        raise LandmarkError(f"{final} holds something that is no Python environment; name an empty folder with --where")
    fresh = not final.exists() or not _python_in(final).is_file()
    try:
        if fresh:
            final.mkdir(parents=True, exist_ok=True)
            venv.create(final, with_pip=True)
        command = [str(_python_in(final)), "-m", "pip", "install", "--disable-pip-version-check", "-q", REQUIREMENT]
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        if fresh:
            shutil.rmtree(final, ignore_errors=True)
        found = ".".join(map(str, sys.version_info[:2]))
        raise LandmarkError(
            f"could not install {REQUIREMENT} for Python {found} in {final} ({error}); "
            "mediapipe 0.10.21 has wheels for Python 3.9 to 3.12: run this command with one of them"
        ) from error
    MediapipeLandmarker(_python_in(final)).close()
    return _python_in(final)


def main(setup: bool = False, where: Path | None = None) -> int:
    """Says whether the landmarks environment works; with --setup makes it.

    Args:
        setup: install mediapipe into an environment of its own (once, about 1 GB).
        where: its folder; the user's cache folder by default.
    """
    try:
        python = set_up(where) if setup else (_python_in(where) if where else find_python())
        MediapipeLandmarker(python).close()
    except LandmarkError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"landmarks work: {python}")
    if where and Path(where) != environment_folder():
        print(f"set {ENVIRONMENT_VARIABLE}={python} so that prepare finds it")
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
