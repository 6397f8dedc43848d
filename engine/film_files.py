"""What a film is made of and the files it becomes: mp4, alpha, pictures. They take their names together, or vanish."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from engine.animator import straighten
from engine.audio.files import SpeechFile
from engine.avatar import Avatar
from engine.controls import Controls
from engine.curves import Curves
from engine.errors import OutputError
from engine.expressions import EXPRESSION_NAMES
from engine.outputs.recorder import FilmSpec, Recorder

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Film:
    """What to render. `size` is (width, height); `alpha` a .mov or .webm beside the mp4; `frames` a folder for PNG
    pictures.
    """

    speech: Path
    out: Path
    size: tuple[int, int]
    controls: Controls = field(default_factory=Controls)
    alpha: Path | None = None
    frames: Path | None = None
    curves: Curves | None = None
    seconds: float | None = None
    backend: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Drawn:
    """A frame on its way to the files: `yuv` for the film, `rgba` (premultiplied) for alpha, `expression` for
    software.
    """

    yuv: Pixels
    rgba: Pixels
    expression: NDArray[np.float32] | None


def save_png(path: Path, rgba: Pixels) -> None:
    """Writes a premultiplied picture as straight RGBA, without loss. Raises `OutputError`."""
    done, data = cv2.imencode(
        ".png", cv2.cvtColor(straighten(rgba), cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 2]
    )
    try:
        if not done:
            raise OSError("the picture cannot be encoded")
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error})") from None


class FilmFiles:
    """All files of one film. As a context it removes them if the block fails."""

    def __init__(self, avatar: Avatar, film: Film, speech: SpeechFile) -> None:
        self.frames = 0
        self._film, self._expressions = film, list[NDArray[np.float32]]()
        self._folder = film.frames.with_name(f"{film.frames.name}.partial") if film.frames else None
        if film.frames and film.frames.exists() and (not film.frames.is_dir() or any(film.frames.iterdir())):
            raise OutputError(f"{film.frames} exists and is not empty; choose another folder for the pictures")
        width, height = film.size
        sound = speech.rate, speech.channels
        # ultrafast: half of superfast's work, at the same likeness for half as much again in size
        self._recorders = [Recorder(film.out, FilmSpec(width, height, avatar.name, *sound, preset="ultrafast", crf=21))]
        try:
            if film.alpha:
                spec = FilmSpec(avatar.size, avatar.size, avatar.name, *sound)
                self._recorders.append(Recorder(film.alpha, spec))
            if self._folder:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder.mkdir(parents=True)
        except OSError as error:
            self.abort()
            raise OutputError(f"{film.frames} cannot be made ({error.strerror})") from None
        except OutputError:
            self.abort()
            raise

    def save_picture(self, frame: int, rgba: Pixels) -> None:
        """Writes one frame as PNG if the film wants pictures. Any thread, unlike all else here."""
        if self._folder:
            save_png(self._folder / f"{frame:06d}.png", rgba)

    def write(self, drawn: Drawn) -> None:
        self._recorders[0].write_yuv(drawn.yuv)
        for recorder in self._recorders[1:]:
            recorder.write_frame(drawn.rgba)
        if self._folder and drawn.expression is not None:
            self._expressions.append(drawn.expression)
        self.frames += 1

    def write_audio(self, block: NDArray[np.float32]) -> None:
        for recorder in self._recorders:
            recorder.write_audio(block)

    def finish(self) -> None:
        """Completes every file, then gives each its name: nothing is named unless all are whole."""
        if self._folder and self._expressions:
            path = self._folder / "expression.safetensors"
            names = {"names": " ".join(EXPRESSION_NAMES)}
            safetensors.numpy.save_file({"expression": np.stack(self._expressions)}, path, names)
        for recorder in self._recorders:
            recorder.finish()
        if self._folder and self._film.frames:
            if self._film.frames.is_dir():
                self._film.frames.rmdir()
            os.replace(self._folder, self._film.frames)
        for recorder in self._recorders:
            recorder.close()

    def abort(self) -> None:
        for recorder in self._recorders:
            recorder.abort()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "FilmFiles":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.abort()
