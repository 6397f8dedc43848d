"""Pixels from truth: the frames of a clip, drawn again from clip.json and truth alone, the same on every machine."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from training.data.clip import PIXEL_FILES, Clip, ClipError, Corpus, add_pixels, read_clip, why_not_written
from training.rig.expressions import EXPRESSIONS
from training.rig.pack import load_pack
from training.rig.person import Person
from training.rig.progress import progress_bar, start_workers
from training.rig.renderer import Renderer

SUPERSAMPLE = 2
QUALITY = {
    "rgb.mp4": "12",
    "alpha.mp4": "2",
}  # x264's CRF; edges are laid over other pictures, so alpha is all but exact
LIMITED_RANGE, FULL_RANGE = 1, 2  # FFmpeg's names for 16..235 and 0..255; alpha must not be squeezed
CLIPS_A_TASK = 6  # of one person: dressing a person costs as much as several frames


def person_of(clip: Clip) -> Person:
    """The clip's person, from the corpus it lies in. Raises ClipError."""
    path = clip.folder.parent.parent / "people" / f"{clip.info.person}.json"
    try:
        return Person.from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ClipError(f"{path}: expected the person that clip {clip.info.id} shows ({error})") from error


def render_clip(clip: Clip, renderer: Renderer | None = None) -> Iterator[NDArray[np.uint8]]:
    """The clip's frames, [size, size, 4] uint8 RGBA with straight alpha.

    renderer: one that has the clip's size, and is dressed as its person if it shows one. Raises ClipError.
    """
    truth = clip.truth()
    if truth.expression.shape[1] != len(EXPRESSIONS):
        raise ClipError(f"{clip.folder}: expected {len(EXPRESSIONS)} expression weights")
    person = person_of(clip)
    if renderer is None or renderer.size != clip.info.size:
        renderer = Renderer(clip.info.size, SUPERSAMPLE)
    if getattr(renderer, "person", None) != person:
        renderer.set_person(person)
    for k in range(clip.info.frames):
        yield renderer.render(truth.expression[k], truth.pose[k], truth.shift[k], truth.gaze[k], float(truth.blink[k]))


class _Encoder:
    """Writes one H.264 file frame by frame."""

    def __init__(self, path: Path, size: int, fps: int, pixel_format: str):
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=fps)
        self._stream.width = self._stream.height = size
        self._stream.pix_fmt = pixel_format
        self._stream.codec_context.color_range = FULL_RANGE if pixel_format == "gray" else LIMITED_RANGE
        self._stream.thread_count = 1
        self._stream.options = {"crf": QUALITY[path.name], "preset": "medium"}

    def write(self, picture: np.ndarray, layout: str) -> None:
        frame = av.VideoFrame.from_ndarray(picture, format=layout)
        if layout == "gray":
            frame.color_range = FULL_RANGE
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()


def read_pixels(clip: Clip) -> Iterator[NDArray[np.uint8]]:
    """The stored frames, [size, size, 4] uint8 RGBA with straight alpha; near `render_clip`'s, for they were coded."""
    if not clip.has_pixels():
        raise ClipError(f"{clip.folder}: has no pixels yet; draw them: python -m training.rig.corpus OUT --rerender")
    with av.open(str(clip.folder / "rgb.mp4")) as rgb, av.open(str(clip.folder / "alpha.mp4")) as alpha:
        for colour, cover in zip(rgb.decode(video=0), alpha.decode(video=0)):
            yield np.dstack([colour.to_ndarray(format="rgb24"), cover.to_ndarray(format="gray")])


def draw_clip(clip: Clip, renderer: Renderer, folder: Path, on_frame=lambda: None) -> Clip:
    """Draws and stores the clip's pixels by way of temporary files in `folder`. Raises ClipError."""
    scratch = folder / f"{clip.info.id}.{os.getpid()}"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        files = {name: scratch / name for name in PIXEL_FILES}
        formats = {"rgb.mp4": "yuv420p", "alpha.mp4": "gray"}
        coders = {n: _Encoder(path, clip.info.size, clip.info.fps, formats[n]) for n, path in files.items()}
        for frame in render_clip(clip, renderer):
            coders["rgb.mp4"].write(np.ascontiguousarray(frame[..., :3]), "rgb24")
            coders["alpha.mp4"].write(np.ascontiguousarray(frame[..., 3]), "gray")
            on_frame()
        for coder in coders.values():
            coder.close()
        return add_pixels(clip, files)
    except (av.error.FFmpegError, OSError) as error:
        raise ClipError(f"{clip.folder}: pixels not written: {why_not_written(error)}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


_drawn = None
_renderers: dict[int, Renderer] = {}
_head_pack: Path | None = None


def _begin(counter, head_pack: Path | None) -> None:
    global _drawn, _head_pack
    _drawn, _head_pack = counter, head_pack


def _count() -> None:
    with _drawn.get_lock():
        _drawn.value += 1


def _draw_some(folders: list[Path]) -> list[str]:
    """Draws clips of one person; returns a line for each that failed."""
    failed = []
    for folder in folders:
        try:
            clip = read_clip(folder)
            size = clip.info.size
            if size not in _renderers:
                _renderers[size] = Renderer(size, SUPERSAMPLE, load_pack(_head_pack))
            draw_clip(clip, _renderers[size], folder.parent.parent / ".drawing", _count)
        except ClipError as error:
            if "disk is full" in str(error):
                raise
            failed.append(str(error))
    return failed


def draw_corpus(root: Path, workers: int = 0, head_pack: Path | None = None) -> list[str]:
    """Draws every clip that has no pixels yet, on all cores. Returns a line for each that failed."""
    shutil.rmtree(root / ".drawing", ignore_errors=True)  # of a run that was killed
    left = [clip for clip in Corpus(root) if not clip.has_pixels()]
    left.sort(key=lambda clip: (clip.info.person, clip.info.id))
    tasks: list[list[Path]] = []
    for clip in left:
        last = tasks[-1] if tasks else []
        if last and len(last) < CLIPS_A_TASK and read_clip(last[0]).info.person == clip.info.person:
            last.append(clip.folder)
        else:
            tasks.append([clip.folder])
    total = sum(clip.info.frames for clip in left)
    counter = multiprocessing.get_context("spawn").Value("q", 0)
    failed: list[str] = []
    with start_workers(workers, _begin, (counter, head_pack)) as pool, progress_bar() as bar:
        task = bar.add_task("pixels (frames)", total=total, note=f"{len(left)} clips")
        pending = {pool.submit(_draw_some, folders) for folders in tasks}
        while pending:
            done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
            try:
                failed += [line for future in done for line in future.result()]
            except ClipError:
                pool.shutdown(cancel_futures=True)
                raise
            bar.update(task, completed=counter.value)
    shutil.rmtree(root / ".drawing", ignore_errors=True)
    return failed
