"""A speech file becomes a film, as fast as this machine can.

    file --decode--> audio encoder (hop by hop) --contexts--> workers: frame decoder, layers, background --in
    order--> H.264, PNG

The encoder's state ties hops together; frames are independent, so workers draw several at once, each with its own
graph on one thread. Everything heavy (inference, OpenCV, codecs) leaves the interpreter free. Frame k shows what is
said at k/30 s: look-ahead costs a live avatar time, a film nothing.
"""

import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from engine.animator import SAMPLES_PER_FRAME, newest_hop, straighten
from engine.audio.files import SpeechFile, SpeechResampler
from engine.avatar import Avatar
from engine.backends import load_graphs
from engine.compose import Composer
from engine.controls import Controls
from engine.curves import Curves
from engine.decoder import FrameDecoder, Picture
from engine.encoder import AudioEncoder
from engine.errors import OutputError
from engine.idle import Motion, move
from engine.manifest import FPS, HOP_SAMPLES, RATE
from engine.outputs.recorder import FilmSpec, Recorder, to_yuv

Pixels = NDArray[np.uint8]
Progress = Callable[[int, int | None], None]  # frames done, frames in all if known


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
class Rendered:
    """What came of it: frames drawn, and what ran the graphs."""

    frames: int
    backend: str


@dataclass(frozen=True)
class _Drawn:
    """A frame on its way to the files: `yuv` for the film, `rgba` (premultiplied) for alpha, `expression` for
    software.
    """

    yuv: Pixels
    rgba: Pixels
    expression: NDArray[np.float32] | None


def render(avatar: Avatar, film: Film, progress: Progress = lambda done, total: None) -> Rendered:
    """Renders a film; raises a `MouthpieceError`, and leaves nothing under the final names, if anything fails."""
    workers = max(1, min(os.cpu_count() or 1, 8))
    threads_before = cv2.getNumThreads()
    with ExitStack() as stack:
        speech = stack.enter_context(SpeechFile(film.speech))
        models = [avatar.graph("audio_encoder"), *[avatar.graph("frame_decoder")] * workers]
        loaded = load_graphs(models, film.backend, threads=1)
        for graph in loaded.graphs:
            stack.callback(graph.close)
        # The workers already use every core.
        cv2.setNumThreads(1)
        stack.callback(cv2.setNumThreads, threads_before)
        person = avatar.person(film.controls.person)
        easels = _Easels([FrameDecoder(avatar, graph, person) for graph in loaded.graphs[1:]], film)
        outputs = stack.enter_context(_Outputs(avatar, film, speech))
        pool = stack.enter_context(ThreadPoolExecutor(workers, "draw"))
        pending: deque[Future[_Drawn]] = deque()
        total = film.curves.frames if film.curves else _expected_frames(speech, film.seconds)
        try:
            for contexts, frame in _contexts(
                speech, AudioEncoder(avatar, loaded.graphs[0]), avatar.lookahead_hops, film, outputs
            ):
                pending.append(pool.submit(easels.draw, contexts, frame))
                if len(pending) > 2 * workers:
                    outputs.write(pending.popleft().result())
                    progress(outputs.frames, total)
            while pending:
                outputs.write(pending.popleft().result())
                progress(outputs.frames, total)
        finally:
            for waiting in pending:
                waiting.cancel()
        outputs.finish()
    return Rendered(outputs.frames, f"{loaded.graphs[1].device} ({loaded}), {workers} at once")


def _expected_frames(speech: SpeechFile, seconds: float | None) -> int | None:
    known = [s for s in (speech.seconds, seconds) if s]
    return int(min(known) * FPS + 0.999) if known else None


def _contexts(
    speech: SpeechFile, encoder: AudioEncoder, lookahead_hops: int, film: Film, outputs: "_Outputs"
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yields (contexts [1, W, C], frame) for every frame of the film, and hands the sound on to it."""
    frame, heard = 0, 0
    for block, samples in _sound(speech, film):
        outputs.write_audio(block)
        encoder.push(samples)
        heard += len(samples)
        while newest_hop(frame, lookahead_hops) < encoder.hops and frame < _frames_in(heard, film):
            yield encoder.window(newest_hop(frame, lookahead_hops)), frame
            frame += 1
    # The look-ahead of the last frames, and what curves want beyond the sound, is silence.
    while frame < _frames_in(heard, film):
        while newest_hop(frame, lookahead_hops) >= encoder.hops:
            encoder.push(np.zeros(HOP_SAMPLES, np.float32))
        yield encoder.window(newest_hop(frame, lookahead_hops)), frame
        frame += 1


def _frames_in(samples: int, film: Film) -> int:
    """Frames whose time lies within the sound heard so far; curves decide for themselves."""
    return film.curves.frames if film.curves else -int(-Fraction(samples) // SAMPLES_PER_FRAME)


def _sound(speech: SpeechFile, film: Film) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yields the file's own sound [n, channels] with the same at 16 kHz mono, cut to the wanted length."""
    seconds = film.curves.frames / FPS if film.curves else film.seconds
    left = None if seconds is None else round(seconds * speech.rate)
    left_16k = None if seconds is None else round(seconds * RATE)
    resampler = SpeechResampler(speech.rate)

    def cut(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal left_16k
        samples = samples if left_16k is None else samples[:left_16k]
        left_16k = None if left_16k is None else left_16k - len(samples)
        return samples

    for block in speech.blocks():
        block = block if left is None else block[:left]
        left = None if left is None else left - len(block)
        yield block, cut(resampler.push(block))
        if left == 0:
            break
    yield np.zeros((0, speech.channels), np.float32), cut(resampler.push(np.zeros((0, 1), np.float32), last=True))


class _Easels:
    """A decoder and a composer for each worker thread; any of them draws any frame."""

    def __init__(self, decoders: list[FrameDecoder], film: Film) -> None:
        self._film = film
        self._free = [(decoder, Composer(*film.size)) for decoder in decoders]
        for _, composer in self._free:
            composer.prepare(film.controls.background)
        self._lock = threading.Lock()

    def _motion(self, frame: int) -> Motion:
        return (
            self._film.curves.at(frame)
            if self._film.curves
            else move(self._film.controls, frame / FPS, self._film.seed)
        )

    def draw(self, contexts: NDArray[np.float32], frame: int) -> _Drawn:
        with self._lock:
            easel = self._free.pop()
        try:
            decoder, composer = easel
            picture: Picture = decoder.draw(contexts, self._motion(frame))
            controls = self._film.controls
            rgb = composer.compose(picture.rgba, controls.background, controls.framing, controls.mirror)
            if self._film.frames:
                save_png(
                    self._film.frames.with_name(f"{self._film.frames.name}.partial") / f"{frame:06d}.png", picture.rgba
                )
            return _Drawn(to_yuv(rgb), picture.rgba, picture.expression)
        finally:
            with self._lock:
                self._free.append(easel)


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


class _Outputs:
    """All files of one film: they take their names together at the end, or vanish."""

    def __init__(self, avatar: Avatar, film: Film, speech: SpeechFile) -> None:
        self.frames = 0
        self._film, self._expressions = film, list[NDArray[np.float32]]()
        self._folder = film.frames.with_name(f"{film.frames.name}.partial") if film.frames else None
        if film.frames and film.frames.exists() and (not film.frames.is_dir() or any(film.frames.iterdir())):
            raise OutputError(f"{film.frames} exists and is not empty; choose another folder for the pictures")
        width, height = film.size
        self._recorders = [Recorder(film.out, FilmSpec(width, height, avatar.name, speech.rate, speech.channels))]
        try:
            if film.alpha:
                self._recorders.append(
                    Recorder(film.alpha, FilmSpec(avatar.size, avatar.size, avatar.name, speech.rate, speech.channels))
                )
            if self._folder:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder.mkdir(parents=True)
        except OSError as error:
            self.abort()
            raise OutputError(f"{film.frames} cannot be made ({error.strerror})") from None
        except OutputError:
            self.abort()
            raise

    def write(self, drawn: _Drawn) -> None:
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
        """Closes all films and gives every output its name."""
        if self._folder and self._film.frames:
            if self._expressions:
                safetensors.numpy.save_file(
                    {"expression": np.stack(self._expressions)}, self._folder / "expression.safetensors"
                )
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

    def __enter__(self) -> "_Outputs":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.abort()
