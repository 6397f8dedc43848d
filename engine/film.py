"""A speech file becomes a film, as fast as this machine can.

    file --decode--> audio encoder --contexts--> workers: decoder --layers--> workers: picture, background, PNG
                                                                                     --in order--> H.264

The encoder's state ties hops together; frames are independent, so workers draw several at once, each with its own
graph on one thread. Everything heavy (inference, OpenCV, codecs) leaves the interpreter free. Frame k shows what is
said at k/30 s: look-ahead costs a live avatar time, a film nothing.

Not every frame is decoded whole: engine/film_line.py.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.animator import SAMPLES_PER_FRAME, newest_hop
from engine.audio.files import SpeechFile, SpeechResampler
from engine.avatar import Avatar
from engine.backends import load_graphs
from engine.compose import Composer
from engine.decoder import FrameDecoder, Part
from engine.encoder import AudioEncoder
from engine.film_files import Drawn, Film, FilmFiles
from engine.film_line import Layers, Line
from engine.idle import Motion, move
from engine.manifest import FPS, HOP_SAMPLES, RATE
from engine.outputs.pixels import to_yuv
from engine.prosody import Prosody
from engine.voice_mood import VoiceListener, blended, load_reader

Progress = Callable[[int, int | None], None]  # frames done, frames in all if known
_MANY_FRAMES = 600  # what saves work, but takes work to load, pays from here on


@dataclass(frozen=True)
class Rendered:
    """What came of it: frames drawn, and what ran the graphs."""

    frames: int
    backend: str


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
        encoder = AudioEncoder(avatar, loaded.graphs[0])
        listener = _listener(avatar, encoder, film)
        if listener is not None:
            stack.callback(listener.close)
        person = avatar.person(film.controls.person)
        outputs = stack.enter_context(FilmFiles(avatar, film, speech))
        decoders = [FrameDecoder(avatar, graph, person) for graph in loaded.graphs[1:]]
        easels = _Easels(decoders, film, outputs)
        pool = stack.enter_context(ThreadPoolExecutor(workers, "draw"))
        total = film.curves.frames if film.curves else _expected_frames(speech, film.seconds)
        exact = film.frames is not None or not decoders[0].in_halves
        if not exact and (total is None or total >= _MANY_FRAMES):
            for decoder in decoders:
                decoder.prepare_for_many()
        line = Line(pool, easels.decode, easels.draw, exact)
        try:
            for heard in _heard(speech, encoder, listener, film, outputs):
                for drawn in line.push(heard.contexts, easels.motion(heard)):
                    outputs.write(drawn)
                    progress(outputs.frames, total)
            for drawn in line.rest():
                outputs.write(drawn)
                progress(outputs.frames, total)
        finally:
            line.cancel()
        outputs.finish()
    return Rendered(outputs.frames, f"{loaded.graphs[1].device}, {workers} frames at once ({loaded})")


def _expected_frames(speech: SpeechFile, seconds: float | None) -> int | None:
    known = [s for s in (speech.seconds, seconds) if s]
    return int(min(known) * FPS + 0.999) if known else None


@dataclass(frozen=True)
class _Heard:
    """What a worker needs for one frame: contexts [1, W, C], how the voice moved, its mood [6] if it is read."""

    frame: int
    contexts: NDArray[np.float32]
    voice: Prosody
    mood: NDArray[np.float32] | None


def _listener(avatar: Avatar, encoder: AudioEncoder, film: Film) -> VoiceListener | None:
    """What reads the mood, if it is asked for."""
    reader = load_reader(avatar) if film.controls.auto_emotion > 0 and not film.curves else None
    return VoiceListener(avatar, reader, encoder) if reader is not None else None


def _heard(
    speech: SpeechFile, encoder: AudioEncoder, listener: VoiceListener | None, film: Film, outputs: FilmFiles
) -> Iterator[_Heard]:
    """Yields every frame of the film as soon as its sound has been encoded, and hands the sound on to the film."""
    frame, samples_heard = 0, 0
    lookahead = encoder.lookahead_hops

    def frame_heard() -> _Heard:
        hop = newest_hop(frame, lookahead)
        mood = listener.mood(hop) if listener is not None else None
        return _Heard(frame, encoder.window(hop), encoder.prosody(hop), mood)

    for block, samples in _sound(speech, film):
        outputs.write_audio(block)
        encoder.push(samples)
        if listener is not None:
            listener.follow()
        samples_heard += len(samples)
        while newest_hop(frame, lookahead) < encoder.hops and frame < _frames_in(samples_heard, film):
            yield frame_heard()
            frame += 1
    # The look-ahead of the last frames, and what curves want beyond the sound, is silence.
    while frame < _frames_in(samples_heard, film):
        while newest_hop(frame, lookahead) >= encoder.hops:
            encoder.push(np.zeros(HOP_SAMPLES, np.float32))
        yield frame_heard()
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

    def __init__(self, decoders: list[FrameDecoder], film: Film, files: FilmFiles) -> None:
        self._film, self._files = film, files
        self._free = [(decoder, Composer(*film.size)) for decoder in decoders]
        for _, composer in self._free:
            composer.prepare(film.controls.background)
        self._lock = threading.Lock()

    @contextmanager
    def _easel(self) -> Iterator[tuple[FrameDecoder, Composer]]:
        with self._lock:
            easel = self._free.pop()
        try:
            yield easel
        finally:
            with self._lock:
                self._free.append(easel)

    def decode(self, contexts: NDArray[np.float32], motion: Motion, part: Part) -> Layers:
        with self._easel() as (decoder, _):
            return decoder.layers(contexts, motion, part)

    def draw(self, frame: int, layers: Layers) -> Drawn:
        with self._easel() as (decoder, composer):
            picture = decoder.finish(layers)
            controls = self._film.controls
            rgb = composer.compose(picture.rgba, controls.background, controls.framing, controls.mirror)
            self._files.save_picture(frame, picture.rgba)
            return Drawn(to_yuv(rgb), picture.rgba, picture.expression)

    def motion(self, heard: _Heard) -> Motion:
        if self._film.curves:
            return self._film.curves.at(heard.frame)
        controls = self._film.controls
        if heard.mood is not None:
            controls = blended(controls, heard.mood)
        return move(controls, heard.frame / FPS, self._film.seed, heard.voice)
