"""One recording -> clips: follow the face, cut scenes, read landmarks, check sound against lips, crop, write."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import av
import numpy as np
from safetensors.numpy import save_file
from scipy.ndimage import gaussian_filter1d

from training.data import expression, face, sync
from training.data.clip import (
    EMOTIONS,
    FPS,
    PIXEL_FILES,
    RATE,
    ClipError,
    ClipInfo,
    Phone,
    Truth,
    add_pixels,
    write_clip,
)
from training.data.crop import NECK_AT, NECK_WIDTH_CM, Square, covered, cut_square, steady_square
from training.data.landmarks import FaceLandmarker
from training.data.record import ClipNote, Outcome
from training.data.segments import Stretch, stretches
from training.data.sources import Recording
from training.data.track import follow
from training.data.video import CUT_SHORT, VideoError, VideoInfo, pictures, probe, sound, sound_beside

NECK_DEPTH_CM = 106.1  # from the rig's camera to the neck's pivot
QUIET_PEAK = 1e-3  # sound that never rises above this is silence
LONGEST_ALIGNED_S = 60.0
OUTSIDE_CLIP = 0.35  # a square that shows this little of the source has no head and bust in it
SHOWN_FILE = "shown.safetensors"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Settings:
    """What changes the clips that a recording gives."""

    size: int = 512
    least_s: float = 1.0
    longest_s: float = 20.0
    fix_sync: bool = False
    matte: bool = False
    pixels: bool = True

    def __str__(self) -> str:
        return f"{self.size},{self.least_s:g},{self.longest_s:g},{self.fix_sync},{self.matte},{self.pixels}"


@dataclass(frozen=True)
class Take:
    """A stretch that is ready to be written: readings per source picture, and the sound's offset."""

    stretch: Stretch
    faces: face.Faces
    blink: np.ndarray  # [pictures]
    square: Square
    offset: sync.Offset


class Unusable(Exception):
    """The recording gives no clip; the message is the reason."""


def ingest(recording: Recording, root: Path, settings: Settings, landmarker: FaceLandmarker, stamp: str) -> Outcome:
    """Writes the recording's clips below `root` and says what became of it. Never raises for a bad file.

    Raises LandmarkError (the worker died) and KeyboardInterrupt.
    """
    known = {"id": recording.id, "video": str(recording.video), "stamp": stamp, "person": recording.person}
    known |= {"emotion": recording.emotion, "split": recording.split}
    try:
        info = probe(recording.video)
        known["picture"] = f"{info.codec} {info.width}x{info.height} {info.rate:.2f} fps" + (
            f", turned {info.rotation_deg}" if info.rotation_deg else ""
        )
        notes, dropped = _ingest(recording, info, root, settings, landmarker)
        return Outcome(**known, state="clips", notes=notes, dropped=dropped)
    except Unusable as error:
        return Outcome(**known, state="rejected", reason=str(error))
    except VideoError as error:
        return Outcome(**known, state="rejected", reason=str(error))
    except (ClipError, OSError, av.error.FFmpegError, MemoryError) as error:
        return Outcome(**known, state="failed", reason=_plainly(error))


def _plainly(error: BaseException) -> str:
    full = getattr(error, "errno", None) in FULL_DISK or any(
        w in str(error) for w in ("No space left", "too large", "disk is full")
    )
    if full:
        return "the disk is full; free some space and run the same command again"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _ingest(recording: Recording, info: VideoInfo, root: Path, settings: Settings, landmarker: FaceLandmarker):
    heard = _sound_file(recording, info)
    track = follow(pictures(recording.video, recording.start_s, recording.end_s), landmarker)
    if not len(track.times):
        raise Unusable("no picture can be decoded")
    reached, length = track.times[-1] - track.times[0], min(info.duration_s, recording.end_s) - recording.start_s
    if reached < CUT_SHORT * length - 0.5:
        raise Unusable(f"cut short: {reached:.1f} of {length:.1f} s can be read; copy the file again")
    found, reasons = stretches(track, settings.least_s)
    if not found:
        raise Unusable("; ".join(dict.fromkeys(reasons)))
    notes: list[ClipNote] = []
    for number, stretch in enumerate(found):
        scene = f"-s{number}" if len(found) > 1 else ""
        try:
            take = _take(stretch, heard, track.times[0])
            if take.square.inside(track.width, track.height) < OUTSIDE_CLIP:
                raise Unusable("the picture ends so close to the face that head and bust are not in it")
            phones = _phones(recording, take, heard, track.times[0]) if len(found) == 1 else []
        except Unusable as error:
            reasons.append(str(error))
            continue
        notes += _write(recording, scene, take, phones, heard, track, root, settings, landmarker)
    if not notes:
        raise Unusable("; ".join(dict.fromkeys(reasons)))
    return notes, list(dict.fromkeys(reasons))


def _sound_file(recording: Recording, info: VideoInfo) -> tuple[Path, bool]:
    """The file to take the sound from, and whether it is another one than the video's."""
    if recording.sound:
        return recording.sound, True
    if info.sound_rate:
        return recording.video, False
    beside = sound_beside(recording.video)
    if beside is None:
        raise Unusable("no sound track, and no sound file of the same name beside it")
    return beside, True


def _listen(heard: tuple[Path, bool], start_s: float, seconds: float, first_picture_s: float) -> np.ndarray:
    """Sound from container time `start_s` on; a file of its own starts when the video's first picture does."""
    path, apart = heard
    return sound(path, start_s - (first_picture_s if apart else 0.0), seconds)


def _take(stretch: Stretch, heard: tuple[Path, bool], first_picture_s: float) -> Take:
    faces = face.read(stretch.mesh)
    seconds = float(stretch.times[-1] - stretch.times[0])
    rate = (len(stretch.times) - 1) / seconds
    audio = _listen(heard, stretch.times[0], seconds, first_picture_s)
    if np.abs(audio).max(initial=0) < QUIET_PEAK:
        raise Unusable("the sound track is silent")
    return Take(
        stretch=stretch,
        faces=faces,
        blink=face.blink(faces.opening),
        square=steady_square(faces.pivot, faces.pixels_per_cm, rate),
        offset=sync.estimate(audio, stretch.times - stretch.times[0], faces.aperture, faces.width),
    )


def _phones(recording: Recording, take: Take, heard: tuple[Path, bool], first_picture_s: float) -> list[Phone]:
    """Phones on the take's clock; none without a transcript. Raises Unusable when it does not match."""
    seconds = float(take.stretch.times[-1] - take.stretch.times[0])
    if not recording.text or seconds > LONGEST_ALIGNED_S:
        return []
    from training.rig.align import AlignmentError, align_cached

    try:
        return align_cached(_listen(heard, take.stretch.times[0], seconds, first_picture_s), recording.text)
    except AlignmentError as error:
        raise Unusable(f"its transcript: {error}; correct the transcript or take it away") from error


def _write(recording, scene, take: Take, phones, heard, track, root, settings: Settings, landmarker) -> list[ClipNote]:
    """Cuts the take into clips of at most `longest_s`, and writes them."""
    begin = take.stretch.times[0]
    frames = int((take.stretch.times[-1] - begin) * FPS) + 1
    mended = settings.fix_sync and take.offset.sure
    late = take.offset.seconds if mended else 0.0
    audio = _listen(heard, begin + late, frames / FPS, track.times[0])
    notes = []
    for number, (a, b) in enumerate(_parts(audio, frames, settings)):
        clip_id = recording.id + scene + (f"-{number:02d}" if frames > settings.longest_s * FPS else "")
        start = begin + a / FPS
        at = _nearest(take.stretch.times, start + np.arange(b - a) / FPS)
        spoken = _shifted(phones, a / FPS + late, (b - a) / FPS)
        heard_here = audio[a * RATE // FPS : b * RATE // FPS]
        info = _info(recording, clip_id, b - a, spoken, settings)
        truth = _truth(recording, take, at, spoken, settings.size)
        names = (*PIXEL_FILES, SHOWN_FILE)
        files = {name: root / "clips" / f".{clip_id}.{name}.{os.getpid()}.tmp" for name in names}
        try:
            _note_shown(files[SHOWN_FILE], take, at)
            if settings.pixels:
                _draw(recording, take, at, [files[name] for name in PIXEL_FILES], track, settings, landmarker)
            clip = write_clip(root, info, heard_here, truth)
            os.replace(files[SHOWN_FILE], clip.folder / SHOWN_FILE)
            if settings.pixels:
                add_pixels(clip, {name: files[name] for name in PIXEL_FILES})
        finally:
            for path in files.values():
                path.unlink(missing_ok=True)
        notes.append(_note(clip_id, start, take, at, mended, track, settings))
    return notes


def _parts(audio: np.ndarray, frames: int, settings: Settings) -> list[tuple[int, int]]:
    """[first, end) frames of each clip: equal parts, moved by up to a second to where it is quietest."""
    count = int(np.ceil(frames / (settings.longest_s * FPS)))
    level = gaussian_filter1d(np.abs(audio[: frames * RATE // FPS]), RATE / 20)
    edges = [0]
    for k in range(1, count):
        middle = frames * k // count
        nearby = np.arange(max(middle - FPS, edges[-1] + 1), min(middle + FPS, frames))
        edges.append(int(nearby[level[np.minimum(nearby * RATE // FPS, len(level) - 1)].argmin()]))
    edges.append(frames)
    return list(pairwise(edges))


def _nearest(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the picture nearest in time to each wanted moment."""
    after = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    return np.where(wanted - times[after - 1] <= times[after] - wanted, after - 1, after)


def _shifted(phones: list[Phone], start_s: float, seconds: float) -> list[Phone]:
    """The phones of a part, on its own clock."""
    cut = [(name, max(a - start_s, 0.0), min(b - start_s, seconds)) for name, a, b in phones]
    return [(name, round(a, 4), round(b, 4)) for name, a, b in cut if b - a > 1e-3]


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


def _truth(recording: Recording, take: Take, at: np.ndarray, phones: list[Phone], size: int) -> Truth:
    """What was read off the pictures that the frames show; the expression is an estimate (expression.py)."""
    n, faces = len(at), take.faces
    moved = take.square.to_crop(faces.landmarks, size)[at]
    emotion = np.zeros((n, len(EMOTIONS)), np.float32)
    if recording.emotion:
        emotion[:, EMOTIONS.index(recording.emotion)] = recording.intensity
    phone = np.full(n, -1, np.int16)
    for k, (_, a, b) in enumerate(phones):
        phone[(np.arange(n) / FPS >= a) & (np.arange(n) / FPS < b)] = k
    return Truth(
        landmarks=moved.astype(np.float32),
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


def _note_shown(path: Path, take: Take, at: np.ndarray) -> None:
    """Which source picture each frame shows, and which square of it: `time` [n] s, `square` [n, 3] left, top, side, px."""
    square = np.stack([take.square.left, take.square.top, take.square.side], 1)[at]
    save_file({"time": take.stretch.times[at], "square": np.ascontiguousarray(square)}, path)


def _draw(recording, take: Take, at, files: list[Path], track, settings: Settings, landmarker) -> None:
    """The crop's pixels and its alpha, in a second pass over the video."""
    size, square, first = settings.size, take.square, take.stretch.first
    wanted = {int(k): int((at == k).sum()) for k in np.unique(at)}  # picture of the stretch -> how many frames show it
    times = track.times[first : take.stretch.last + 1]
    with Movie(files[0], size, "rgb24", "yuv420p") as rgb, Movie(files[1], size, "gray", "gray") as alpha:
        for k, picture in _again(recording, times):
            if k not in wanted:
                continue
            left, top, side = square.left[k], square.top[k], square.side[k]
            crop = cut_square(picture, left, top, side, size)
            seen = covered(left, top, side, size, track.width, track.height)
            if settings.matte:
                seen = np.minimum(seen, np.round(landmarker.matte(crop) * 255).astype(np.uint8))
            for _ in range(wanted[k]):
                rgb.add(crop)
                alpha.add(seen)


def _again(recording: Recording, times: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(index in `times`, picture) of the second pass; every picture must come again at its time."""
    for time_s, picture in pictures(recording.video, recording.start_s, times[-1] + 1e-6):
        k = int(np.searchsorted(times, time_s - 1e-6))
        if k < len(times) and abs(times[k] - time_s) < 1e-6:
            yield k, picture


class Movie:
    """An H.264 file at 30 fps, written frame by frame; a context manager."""

    def __init__(self, path: Path, size: int, layout: str, stored: str):
        self._layout = layout
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=FPS, options={"crf": "16", "preset": "veryfast"})
        self._stream.width = self._stream.height = size
        self._stream.pix_fmt = stored

    def add(self, picture: np.ndarray) -> None:
        """picture uint8, [size, size, 3] rgb24 or [size, size] gray."""
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(picture, format=self._layout)):
            self._container.mux(packet)

    def __enter__(self) -> Movie:
        return self

    def __exit__(self, kind, *_) -> Literal[False]:
        try:
            if kind is None:
                for packet in self._stream.encode(None):
                    self._container.mux(packet)
        finally:
            self._container.close()
        return False


def _note(clip_id: str, start: float, take: Take, at: np.ndarray, mended: bool, track, settings: Settings) -> ClipNote:
    points = take.faces.landmarks[at]
    return ClipNote(
        id=clip_id,
        from_s=round(float(start), 4),
        seconds=round(len(at) / FPS, 3),
        offset_ms=round(take.offset.seconds * 1000, 1),
        offset_confidence=round(take.offset.confidence, 3),
        offset_mended=mended,
        face_px=round(float(np.median(np.linalg.norm(points[:, 8] - points[:, 27], axis=1))), 1),
        inside=round(take.square.inside(track.width, track.height), 3),
        yaw_deg=round(float(np.degrees(np.abs(take.faces.pose[at, 0]).max())), 1),
        resampled=round(float(np.median(settings.size / take.square.side)), 3),
    )
