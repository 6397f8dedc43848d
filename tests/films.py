"""Small films for tests: a disc for a face on a plain ground, in any container, rate and turn. No face model is needed."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from training.data.face import calibration
from training.data.landmarks import MESH_POINTS

DISC = (200, 40, 200)  # RGB
DISC_CM = 9.0  # radius of the disc on the scale of a head
TICK = Fraction(1, 30_000)


def disc_picture(width: int, height: int, discs: list[tuple[float, float, float]]) -> np.ndarray:
    """[height, width, 3] uint8; discs are (x, y, radius), edges antialiased, places to 1/16 pixel."""
    picture = np.full((height, width, 3), (70, 90, 60), np.uint8)
    for x, y, radius in discs:  # cv2 counts from pixel centres
        centre = round((x - 0.5) * 16), round((y - 0.5) * 16)
        cv2.circle(picture, centre, round(radius * 16), DISC, -1, cv2.LINE_AA, 4)
    return picture


def tone(seconds: float, rate: int, channels: int) -> np.ndarray:
    """[channels, samples] float32: a tone that comes and goes, as syllables do."""
    t = np.arange(int(seconds * rate)) / rate
    one = 0.3 * np.sin(2 * np.pi * 220 * t) * (0.5 - 0.5 * np.cos(2 * np.pi * 3.1 * t))
    return np.repeat(one[None], channels, axis=0).astype(np.float32)


def write_film(
    path: Path,
    pictures: list[np.ndarray],
    times: np.ndarray,
    sound: np.ndarray | None = None,
    sound_rate: int = 48_000,
    sound_late_s: float = 0.0,
    codec: str = "libx264",
) -> Path:
    """Muxes pictures at their times (s) and `sound` [channels, samples]; the container follows the suffix."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        options = {"crf": "20", "preset": "ultrafast"} if codec == "libx264" else {"qscale": "3"}
        video = container.add_stream(codec, rate=30, options=options)
        video.width, video.height, video.pix_fmt = width, height, "yuv444p" if width % 2 or height % 2 else "yuv420p"
        if codec == "libx264":
            video.codec_context.time_base = video.time_base = TICK
        if sound is not None:
            layout = "stereo" if len(sound) == 2 else "mono"
            voice = container.add_stream("aac", rate=sound_rate, layout=layout)
            for start in range(0, sound.shape[1], 1024):
                block = np.ascontiguousarray(sound[:, start : start + 1024])
                shot = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                shot.sample_rate, shot.time_base = sound_rate, Fraction(1, sound_rate)
                shot.pts = start + round(sound_late_s * sound_rate)
                container.mux(voice.encode(shot))
            container.mux(voice.encode(None))
        for picture, time_s in zip(pictures, times):
            shot = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            ticks = TICK if codec == "libx264" else Fraction(1, 30)
            shot.pts, shot.time_base = round(time_s / ticks), ticks
            container.mux(video.encode(shot))
        container.mux(video.encode(None))
    return path


def write_m4a(path: Path, samples: np.ndarray, rate: int = 48_000) -> None:
    """[samples] float32 -> mono AAC."""
    with av.open(str(path), "w", format="ipod") as container:
        voice = container.add_stream("aac", rate=rate, layout="mono")
        for start in range(0, len(samples), 1024):
            shot = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
            shot.sample_rate, shot.pts, shot.time_base = rate, start, Fraction(1, rate)
            container.mux(voice.encode(shot))
        container.mux(voice.encode(None))


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> None:
    """[samples] float32 -> 16 bit mono."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


class DiscLandmarker:
    """A FaceLandmarker whose faces are discs: the calibration's template head, facing the camera, over each disc."""

    def boxes(self, picture: np.ndarray) -> np.ndarray:
        off = np.abs(picture.astype(np.int16) - np.array(DISC)).max(axis=2)
        count, _, stats, _ = cv2.connectedComponentsWithStats((off < 60).astype(np.uint8))
        rows = [(*stats[k, :4].astype(float), 1.0) for k in range(1, count) if stats[k, 4] > 30]
        return np.reshape(rows, (-1, 5)).astype(np.float32)

    def mesh(self, picture: np.ndarray) -> np.ndarray | None:
        coarse = picture[::2, ::2].astype(np.float32)
        weight = np.clip(1 - np.abs(coarse - np.array(DISC, np.float32)).max(axis=2) / 130, 0, 1)  # 1 disc .. 0 ground
        weight[weight < 0.1] = 0
        if weight.sum() < 12:
            return None
        y, x = np.indices(weight.shape) * 2 + 1.0
        centre = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        scale = np.sqrt(4 * weight.sum() / np.pi) / DISC_CM
        head = calibration()["template"].astype(np.float64)
        points = np.zeros((MESH_POINTS, 3))
        points[:468] = (head - head.mean(0)) * (scale, -scale, -scale)
        points[468:] = points[33]
        points[:, :2] += centre
        return points.astype(np.float32)

    def matte(self, picture: np.ndarray) -> np.ndarray:
        return (np.abs(picture.astype(np.int16) - np.array(DISC)).max(axis=2) < 60).astype(np.float32)

    def forget(self) -> None: ...

    def close(self) -> None: ...
