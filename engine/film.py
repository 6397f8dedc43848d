"""A speech file becomes a film, as fast as this machine can.

    file --decode--> audio encoder --contexts--> workers: decoder --layers--> workers: picture, background, PNG
                                                                                     --in order--> H.264

The encoder's state ties hops together; frames are independent, so workers draw several at once, each with its own
graph on one thread. Everything heavy (inference, OpenCV, codecs) leaves the interpreter free. Frame k shows what is
said at k/30 s: look-ahead costs a live avatar time, a film nothing.

A head moves steadily, and where its stills go is half of a decoder's work: three frames in four take that from between
two heads, unless the head changes its speed there, or frames were asked for as pictures.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from engine.decoder import FrameDecoder, between
from engine.encoder import AudioEncoder
from engine.film_files import Drawn, Film, FilmFiles
from engine.idle import Motion, move
from engine.manifest import FPS, HOP_SAMPLES, RATE
from engine.outputs.pixels import to_yuv
from engine.prosody import Prosody
from engine.voice_mood import VoiceListener, blended, load_reader

Progress = Callable[[int, int | None], None]  # frames done, frames in all if known


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
        easels = _Easels([FrameDecoder(avatar, graph, person) for graph in loaded.graphs[1:]], film, outputs)
        pool = stack.enter_context(ThreadPoolExecutor(workers, "draw"))
        total = film.curves.frames if film.curves else _expected_frames(speech, film.seconds)
        line = _Line(pool, easels, workers, exact=film.frames is not None)
        try:
            for heard in _heard(speech, encoder, listener, film, outputs):
                for drawn in line.push(heard):
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


Layers = dict[str, NDArray[np.float32]]
_STRIDE = 4  # frames from one head that is drawn whole to the next
_STEADY_RAD, _STEADY_CM = 0.004, 0.03  # how far a head may stand from the line between those two: under half a pixel


def _steady(motions: Sequence[Motion]) -> bool:
    """Whether the head goes straight and evenly from the first to the last."""
    share = np.linspace(0, 1, len(motions), dtype=np.float32)[:, None]
    for name, most in (("pose", _STEADY_RAD), ("shift", _STEADY_CM)):
        path = np.stack([getattr(motion, name) for motion in motions])
        if np.abs(path - (1 - share) * path[0] - share * path[-1]).max() > most:
            return False
    return True


@dataclass(frozen=True)
class _Decoding:
    """Layers of a frame on their way; without a head of its own it is `share` of the way from one to the other."""

    layers: Future[Layers]
    heads: tuple[Future[Layers], Future[Layers]] | None = None
    share: float = 0.0

    def result(self) -> Layers:
        layers = self.layers.result()
        if self.heads is None:
            return layers
        return between(layers, self.heads[0].result(), self.heads[1].result(), self.share)


class _Line:
    """Frames on their way: heard, then decoded, then drawn, in order and several at once."""

    def __init__(self, pool: ThreadPoolExecutor, easels: "_Easels", workers: int, exact: bool) -> None:
        self._pool, self._easels, self._lag, self._exact = pool, easels, 3 * workers, exact
        self._heard: list[tuple[_Heard, Motion]] = []  # from the last whole head on
        self._last: Future[Layers] | None = None
        self._decoding: deque[_Decoding] = deque()
        self._drawing: deque[Future[Drawn]] = deque()
        self._frame = 0

    def push(self, heard: _Heard) -> Iterator[Drawn]:
        """Takes the next frame; yields those that are drawn."""
        self._heard.append((heard, self._easels.motion(heard)))
        if self._last is None:
            self._last = self._whole(0)
        elif len(self._heard) > _STRIDE:
            self._stride(self._last)
        yield from self._advance(self._lag)

    def rest(self) -> Iterator[Drawn]:
        """Yields all other frames."""
        for i in range(1, len(self._heard)):
            self._whole(i)
        yield from self._advance(0)

    def _decode(self, index: int, whole: bool) -> Future[Layers]:
        return self._pool.submit(self._easels.decode, *self._heard[index], whole)

    def _whole(self, index: int) -> Future[Layers]:
        layers = self._decode(index, whole=True)
        self._decoding.append(_Decoding(layers))
        return layers

    def _stride(self, first: Future[Layers]) -> None:
        """Sends a stride to be decoded: its last frame whole, those on the way too unless the head is steady."""
        if self._exact or not self._easels.in_halves or not _steady([motion for _, motion in self._heard]):
            self._last = [self._whole(i) for i in range(1, _STRIDE + 1)][-1]
        else:
            self._last = self._decode(_STRIDE, whole=True)
            for i in range(1, _STRIDE):
                self._decoding.append(_Decoding(self._decode(i, whole=False), (first, self._last), i / _STRIDE))
            self._decoding.append(_Decoding(self._last))
        del self._heard[:_STRIDE]

    def _advance(self, lag: int) -> Iterator[Drawn]:
        while len(self._decoding) > lag:
            self._drawing.append(self._pool.submit(self._easels.draw, self._frame, self._decoding.popleft()))
            self._frame += 1
        while len(self._drawing) > lag:
            yield self._drawing.popleft().result()

    def cancel(self) -> None:
        """Lets go of what is not begun yet."""
        for decoding in self._decoding:
            decoding.layers.cancel()
        for drawing in self._drawing:
            drawing.cancel()


class _Easels:
    """A decoder and a composer for each worker thread; any of them draws any frame."""

    def __init__(self, decoders: list[FrameDecoder], film: Film, files: FilmFiles) -> None:
        self._film, self._files, self._halves = film, files, decoders[0].in_halves
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

    def decode(self, heard: _Heard, motion: Motion, whole: bool) -> Layers:
        with self._easel() as (decoder, _):
            return decoder.layers(heard.contexts, motion, head=whole)

    @property
    def in_halves(self) -> bool:
        """Whether the decoders can leave the head out."""
        return self._halves

    def draw(self, frame: int, decoding: _Decoding) -> Drawn:
        layers = decoding.result()
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
