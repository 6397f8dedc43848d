"""Any video file as upright RGB pictures with their stream times, and its sound as 16 kHz mono on the same clock.

Times are the container's own (pts x time base), so a variable frame rate, a sound track that starts late and the
priming of a codec all come out right. Nothing here counts frames to tell the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import soxr

from training.data.clip import RATE

LONGEST_JITTER_S = 0.03  # containers round sound stamps to 1 ms or worse; more than this is a hole
SOUND_SUFFIXES = (".wav", ".m4a", ".flac", ".mp3", ".aac", ".ogg", ".opus")
CUT_SHORT = 0.9  # of the declared length must be readable


class VideoError(Exception):
    """A file that cannot be used; the message is the reason, on one line, without the file's name."""


@dataclass(frozen=True)
class VideoInfo:
    """What the container declares. Sizes are upright and with square pixels."""

    path: Path
    width: int
    height: int
    rotation_deg: int
    rate: float  # mean frames a second, 0 when not declared
    duration_s: float  # 0 when not declared
    codec: str
    sound_rate: int  # 0: no sound track
    sound_channels: int


def probe(path: Path) -> VideoInfo:
    """Reads the header and one picture. Raises VideoError."""
    with _open(path) as container:
        stream = _video_stream(container)
        picture = next(_decode(container, stream), None)
        if picture is None:
            raise VideoError("no picture can be decoded: the file is corrupt or cut short")
        upright = _upright(picture, stream.codec_context.sample_aspect_ratio)
        sound = container.streams.audio[0] if container.streams.audio else None
        length = container.duration / av.time_base if container.duration else 0.0
        if stream.duration and stream.time_base:
            length = float(stream.duration * stream.time_base)
        return VideoInfo(
            path=path,
            width=upright.shape[1],
            height=upright.shape[0],
            rotation_deg=int(picture.rotation) % 360,
            rate=float(stream.average_rate or 0),
            duration_s=length,
            codec=stream.codec_context.name,
            sound_rate=sound.codec_context.sample_rate if sound else 0,
            sound_channels=sound.codec_context.channels if sound else 0,
        )


def pictures(path: Path, start_s: float = 0.0, end_s: float = float("inf")) -> Iterator[tuple[float, np.ndarray]]:
    """(container time s, [h, w, 3] uint8 RGB upright), in order of time, from `start_s` to `end_s`.

    Raises VideoError when more than one packet in fifty is damaged.
    """
    with _open(path) as container:
        stream = _video_stream(container)
        if start_s > 1:
            container.seek(int(max(start_s - 0.5, 0) / stream.time_base), stream=stream)
        last = -np.inf
        for frame in _decode(container, stream):
            time_s = (
                float(frame.pts * stream.time_base) if frame.pts is not None else last + 1 / (stream.average_rate or 30)
            )
            if time_s <= last:  # repeated stamp: the later picture of the two would be shown for no time
                continue
            if time_s > end_s:
                return
            last = time_s
            if time_s < start_s - 1e-6:  # decoded on the way from the key frame
                continue
            yield time_s, _upright(frame, stream.codec_context.sample_aspect_ratio)


def sound(path: Path, start_s: float, seconds: float) -> np.ndarray:
    """[seconds * 16000] float32 mono from container time `start_s` on; holes are silence. Raises VideoError."""
    with _open(path) as container:
        if not container.streams.audio:
            raise VideoError("no sound track")
        stream = container.streams.audio[0]
        if start_s > 2:
            container.seek(int((start_s - 1) / stream.time_base), stream=stream)
        try:
            rate, blocks = _sound_blocks(container, stream, start_s + seconds + 0.5)
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(f"the sound track cannot be decoded ({_words(error)})") from error
    if not blocks:
        raise VideoError("the sound track is empty")
    line = np.zeros(round(seconds * rate), np.float32)
    at = None
    for time_s, block in blocks:
        stamp = round((time_s - start_s) * rate)
        if at is None or abs(stamp - at) > LONGEST_JITTER_S * rate:
            at = stamp
        first, last = max(at, 0), min(at + len(block), len(line))
        if first < last:
            line[first:last] = block[first - at : last - at]
        at += len(block)
    out = soxr.resample(line, rate, RATE) if rate != RATE else line
    wanted = round(seconds * RATE)
    return np.pad(out, (0, max(0, wanted - len(out))))[:wanted].astype(np.float32)


def sound_beside(video: Path) -> Path | None:
    """A sound file of the same name next to a silent video, as some data sets ship them."""
    return next((p for p in (video.with_suffix(s) for s in SOUND_SUFFIXES) if p.is_file()), None)


def _sound_blocks(container, stream, end_s: float) -> tuple[int, list[tuple[float, np.ndarray]]]:
    """The track's rate, and (container time s, mono float32 block) for each decoded frame up to `end_s`."""
    blocks, rate, damaged = [], stream.codec_context.sample_rate, 0
    resampler = None
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            damaged += 1
            continue
        for frame in frames:
            if resampler is None:
                rate = frame.sample_rate
                resampler = av.AudioResampler("fltp", frame.layout, rate)  # format only: the mix and the rate are ours
            time_s = float(frame.pts * frame.time_base) if frame.pts is not None else 0.0
            if time_s > end_s:
                return rate, blocks
            for planar in resampler.resample(frame):
                blocks.append((time_s, planar.to_ndarray().mean(axis=0, dtype=np.float32)))
    if damaged and not blocks:
        raise VideoError("the sound track cannot be decoded: it is corrupt")
    return rate, blocks


def _open(path: Path):
    try:
        return av.open(str(path), metadata_errors="ignore")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"cannot be opened as a video ({_words(error)}): corrupt, cut short, or no video") from error


def _video_stream(container):
    moving = [s for s in container.streams.video if s.codec_context is not None and not _is_cover(s)]
    if not moving:
        raise VideoError("holds no video track")
    moving[0].thread_type = "AUTO"
    return moving[0]


def _is_cover(stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _decode(container, stream) -> Iterator[av.VideoFrame]:
    packets = damaged = 0
    for packet in container.demux(stream):
        packets += 1
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            damaged += 1
            frames = []
        for frame in frames:
            damaged += frame.is_corrupt
            yield frame
    if damaged > max(1, packets // 50):
        raise VideoError(f"{damaged} of its {packets} packets are damaged; copy the file again")


def _upright(frame: av.VideoFrame, aspect) -> np.ndarray:
    """RGB, turned as the display matrix says, with square pixels."""
    picture = frame.to_ndarray(format="rgb24")
    if aspect and aspect != 1:
        height, width = picture.shape[:2]
        picture = cv2.resize(picture, (max(1, round(width * float(aspect))), height), interpolation=cv2.INTER_AREA)
    quarter_turns = round(frame.rotation / 90) % 4  # anticlockwise
    return np.ascontiguousarray(np.rot90(picture, quarter_turns)) if quarter_turns else picture


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0].strip()
