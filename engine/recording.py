"""A film of the session while it runs: a thread of its own, bounded queues, and a file that plays whatever happens."""

import queue
import threading
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.audio.capture import Heard
from engine.audio.resample import Resampler
from engine.errors import OutputError
from engine.outputs.recorder import FilmSpec, Recorder

FRAMES_WAITING, SOUNDS_WAITING = 12, 1000
FILM_RATE = 48000
SAMPLES_PER_FRAME = Fraction(16000, 30)


class Recording:
    """One film. `offer_*`: inference thread, never waits. `finish`: any thread. The rest is for the recorder thread
    itself.

    Frame k shows what is said at k/30 s, so the film begins at the first frame whose sound is heard after the start.
    """

    def __init__(self, path: Path, width: int, height: int, avatar: str) -> None:
        self.path = path
        self.failure = ""
        self.dropped = 0
        self.frames = 0
        self._spec = FilmSpec(width, height, avatar, audio_rate=FILM_RATE, preset="superfast", crf=20)
        self._pictures: queue.Queue[tuple[int, NDArray[np.uint8]]] = queue.Queue(FRAMES_WAITING)
        self._sounds: queue.Queue[Heard] = queue.Queue(SOUNDS_WAITING)
        self._first: int | None = None
        self._ending = threading.Event()
        self._opened = threading.Event()
        self._resampler = Resampler(FILM_RATE, FILM_RATE)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def begin(self) -> None:
        """Opens the file. Raises `OutputError` if it cannot be written."""
        self._thread.start()
        self._opened.wait()
        if self.failure:
            raise OutputError(self.failure)

    @property
    def seconds(self) -> float:
        """Length of the film so far."""
        return self.frames / 30

    @property
    def running(self) -> bool:
        """Whether the file is still being written or finished."""
        return self._thread.is_alive()

    def offer_sound(self, heard: Heard) -> None:
        """Takes the next sound; the first one decides where the film begins. Inference thread."""
        if self.failure:
            return
        if self._first is None:
            self._first = ceil(Fraction(heard.position) / SAMPLES_PER_FRAME)
        try:
            self._sounds.put_nowait(heard)
        except queue.Full:
            self.dropped += 1

    def offer_frame(self, index: int, picture: NDArray[np.uint8]) -> None:
        """Takes a frame, which nobody may write to any more; when the writer is behind, it is left out. Inference
        thread.
        """
        if self._first is None or index < self._first or self.failure:
            return
        try:
            self._pictures.put_nowait((index - self._first, picture))
        except queue.Full:
            self.dropped += 1

    def finish(self, wait_s: float | None = None) -> None:
        """Ends the film; with `wait_s`, waits that long until the file stands under its name."""
        self._ending.set()
        if wait_s is not None:
            self._thread.join(wait_s)

    def _run(self) -> None:
        try:
            recorder = Recorder(self.path, self._spec)
        except OutputError as error:
            self.failure = str(error)
            return
        finally:
            self._opened.set()
        try:
            while not self._ending.is_set():
                self._write_waiting(recorder, wait=True)
            self._write_waiting(recorder, wait=False)
            recorder.close()
        except OutputError as error:
            self.failure = str(error)
            recorder.abort(keep=True)

    def _write_waiting(self, recorder: Recorder, *, wait: bool) -> None:
        """Writes what is queued, sound first, so that a picture never waits for its sound."""
        while not self._sounds.empty():
            self._write_sound(recorder, self._sounds.get_nowait())
        try:
            index, picture = self._pictures.get(timeout=0.05 if wait else 0)
        except queue.Empty:
            return
        recorder.write_frame(picture, index)
        self.frames = recorder.frames
        if not wait:
            self._write_waiting(recorder, wait=False)

    def _write_sound(self, recorder: Recorder, heard: Heard) -> None:
        if heard.rate != self._resampler.in_rate:
            self._resampler = Resampler(heard.rate, FILM_RATE)
        early = self._first * SAMPLES_PER_FRAME - Fraction(heard.position) if self._first is not None else Fraction(0)
        cut = max(0, min(len(heard.samples), round(early * heard.rate / 16000)))
        recorder.write_audio(self._resampler.push(heard.samples[cut:]))
