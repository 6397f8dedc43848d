"""A take -> clips on disk: cut into parts, cropped, annotated in stream time at 30 fps."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from scipy.ndimage import gaussian_filter1d

from training.data import expression
from training.data.clip import (
    EMOTIONS,
    FPS,
    PIXEL_FILES,
    RATE,
    ClipInfo,
    Phone,
    Truth,
    add_pixels,
    write_clip,
)  # fmt: skip
from training.data.crop import NECK_AT, NECK_WIDTH_CM, covered, cut_square
from training.data.landmarks import FaceLandmarker
from training.data.movie import Movie
from training.data.record import ClipNote
from training.data.recording import Recording
from training.data.take import Settings, Take
from training.data.video import pictures

NECK_DEPTH_CM = 106.1  # from the rig's camera to the neck's pivot
SHOWN_FILE = "shown.safetensors"


def write_take(
    take: Take, scene: str, phones: list[Phone], root: Path, settings: Settings, landmarker: FaceLandmarker
) -> list[ClipNote]:
    """Writes the take as clips of at most `longest_s`. Raises ClipError, OSError or FFmpegError; leaves no scraps."""
    frames = int(take.seconds * FPS) + 1
    mended = settings.fix_sync and take.offset.sure
    late = take.offset.seconds if mended else 0.0
    audio = take.sound.listen(take.start_s + late, frames / FPS)
    notes = []
    for number, (a, b) in enumerate(parts(audio, frames, settings.longest_s)):
        part = f"-{number:02d}" if frames > settings.longest_s * FPS else ""
        clip_id = take.recording.id + scene + part
        at = nearest(take.stretch.times, take.start_s + np.arange(a, b) / FPS)
        spoken = shifted(phones, a / FPS + late, (b - a) / FPS)
        info = _info(take.recording, clip_id, b - a, spoken, settings)
        heard = audio[a * RATE // FPS : b * RATE // FPS]
        _write(info, heard, _truth(take, at, spoken, settings.size), take, at, root, settings, landmarker)
        notes.append(_note(clip_id, take.start_s + a / FPS, take, at, mended, settings))
    return notes


def parts(audio: np.ndarray, frames: int, longest_s: float) -> list[tuple[int, int]]:
    """[first, end) frames of each clip: equal parts, their edges moved by up to a second to where it is quietest."""
    count = int(np.ceil(frames / (longest_s * FPS)))
    level = gaussian_filter1d(np.abs(audio[: frames * RATE // FPS]), RATE / 20)
    edges = [0]
    for k in range(1, count):
        middle = frames * k // count
        nearby = np.arange(max(middle - FPS, edges[-1] + 1), min(middle + FPS, frames))
        edges.append(int(nearby[level[np.minimum(nearby * RATE // FPS, len(level) - 1)].argmin()]))
    edges.append(frames)
    return list(pairwise(edges))


def nearest(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the picture nearest in time to each wanted moment."""
    after = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    return np.where(wanted - times[after - 1] <= times[after] - wanted, after - 1, after)


def shifted(phones: list[Phone], start_s: float, seconds: float) -> list[Phone]:
    """The phones of a part, on its own clock."""
    cut = [(name, max(a - start_s, 0.0), min(b - start_s, seconds)) for name, a, b in phones]
    return [(name, round(a, 4), round(b, 4)) for name, a, b in cut if b - a > 1e-3]


def _write(info, heard, truth: Truth, take: Take, at, root: Path, settings: Settings, landmarker) -> None:
    """Pixels first, under temporary names; then the clip, complete."""
    names = (*PIXEL_FILES, SHOWN_FILE)
    files = {name: root / "clips" / f".{info.id}.{name}.{os.getpid()}.tmp" for name in names}
    try:
        square = np.stack([take.square.left, take.square.top, take.square.side], 1)[at]
        save_file({"time": take.stretch.times[at], "square": np.ascontiguousarray(square)}, files[SHOWN_FILE])
        if settings.pixels:
            _draw(take, at, [files[name] for name in PIXEL_FILES], settings, landmarker)
        clip = write_clip(root, info, heard, truth)
        os.replace(files[SHOWN_FILE], clip.folder / SHOWN_FILE)
        if settings.pixels:
            add_pixels(clip, {name: files[name] for name in PIXEL_FILES})
    finally:
        for path in files.values():
            path.unlink(missing_ok=True)


def _info(recording: Recording, clip_id: str, frames: int, phones: list[Phone], settings: Settings) -> ClipInfo:
    return ClipInfo(
        id=clip_id,
        person=recording.person,
        voice=recording.person,
        sentence=recording.sentence or recording.id,
        text=recording.text,
        split=recording.split,
        source=f"{recording.dataset}: {recording.video.name}",
        real_voice=True,
        frames=frames,
        size=settings.size,
        phones=phones,
        seed=int(hashlib.sha256(clip_id.encode()).hexdigest()[:8], 16),
        script=[(0.0, recording.emotion, recording.intensity)] if recording.emotion else [],
    )


def _truth(take: Take, at: np.ndarray, phones: list[Phone], size: int) -> Truth:
    """What was read off the pictures that the frames show; the expression is an estimate (expression.py)."""
    n, faces, recording = len(at), take.faces, take.recording
    emotion = np.zeros((n, len(EMOTIONS)), np.float32)
    if recording.emotion:
        emotion[:, EMOTIONS.index(recording.emotion)] = recording.intensity
    phone = np.full(n, -1, np.int16)
    for k, (_, a, b) in enumerate(phones):
        phone[(np.arange(n) / FPS >= a) & (np.arange(n) / FPS < b)] = k
    return Truth(
        landmarks=take.square.to_crop(faces.landmarks, size)[at].astype(np.float32),
        pose=faces.pose[at],
        shift=_shift(take)[at],
        gaze=faces.gaze[at],
        blink=take.blink[at],
        expression=expression.read(faces.upright)[at],
        emotion=emotion,
        intensity=np.full(n, recording.intensity, np.float32),
        phone=phone,
        aperture=faces.aperture[at],
    )


def _shift(take: Take) -> np.ndarray:
    """[pictures, 3] cm: how far the head is from where the square holds it, for a head of average size."""
    square, faces = take.square, take.faces
    home = NECK_WIDTH_CM / square.side  # cm a source pixel, at the square's own scale
    rest = np.stack([square.left, square.top], 1) + np.outer(square.side, NECK_AT)
    across = (faces.pivot - rest) * home[:, None] * (1, -1)
    near = gaussian_filter1d(faces.pixels_per_cm * home, 3, mode="nearest")
    return np.concatenate([across, (NECK_DEPTH_CM * (1 - 1 / near))[:, None]], axis=1).astype(np.float32)


def _draw(take: Take, at: np.ndarray, files: list[Path], settings: Settings, landmarker: FaceLandmarker) -> None:
    """The crop's pixels and its alpha, in a second pass over the video."""
    size, square = settings.size, take.square
    shown_by = dict(zip(*np.unique(at, return_counts=True)))  # picture of the stretch -> how many frames show it
    with Movie(files[0], size, "rgb24", "yuv420p") as rgb, Movie(files[1], size, "gray", "gray") as alpha:
        for k, picture in _again(take, int(at.min()), int(at.max())):
            if k not in shown_by:
                continue
            left, top, side = square.left[k], square.top[k], square.side[k]
            crop = cut_square(picture, left, top, side, size)
            seen = covered(left, top, side, size, take.width, take.height)
            if settings.matte:
                seen = np.minimum(seen, np.round(landmarker.matte(crop) * 255).astype(np.uint8))
            for _ in range(shown_by[k]):
                rgb.add(crop)
                alpha.add(seen)


def _again(take: Take, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
    """(index in the stretch, picture) from `first` to `last`: a second pass, every picture comes again at its time."""
    times = take.stretch.times
    for time_s, picture in pictures(take.recording.video, times[first], times[last] + 1e-6):
        k = int(np.searchsorted(times, time_s - 1e-6))
        if k < len(times) and abs(times[k] - time_s) < 1e-6:
            yield k, picture


def _note(clip_id: str, start: float, take: Take, at: np.ndarray, mended: bool, settings: Settings) -> ClipNote:
    points = take.faces.landmarks[at]
    return ClipNote(
        id=clip_id,
        from_s=round(start, 4),
        seconds=round(len(at) / FPS, 3),
        offset_ms=round(take.offset.seconds * 1000, 1),
        offset_confidence=round(take.offset.confidence, 3),
        offset_mended=mended,
        face_px=round(float(np.median(np.linalg.norm(points[:, 8] - points[:, 27], axis=1))), 1),
        inside=round(take.square.inside(take.width, take.height), 3),
        yaw_deg=round(float(np.degrees(np.abs(take.faces.pose[at, 0]).max())), 1),
        resampled=round(float(np.median(settings.size / take.square.side)), 3),
    )
