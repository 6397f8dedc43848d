"""A stretch of a recording that is good enough for clips: what was read off it, and the sound that goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data import face, sync
from training.data.crop import Square, steady_square
from training.data.recording import Recording
from training.data.segments import Stretch
from training.data.track import Track
from training.data.video import VideoInfo, sound, sound_beside

QUIET_PEAK = 1e-3  # sound that never rises above this is silence
LEAST_INSIDE = 0.35  # a square that shows less of the source than this has no head and bust in it


class Unusable(Exception):
    """The recording gives no clip; the message is the reason."""


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
class Sound:
    """Where a recording is heard. `zero_s` is the video's time at which the sound file starts: 0 when it is the video's
    own track, the first picture's time when it is a file apart."""

    path: Path
    zero_s: float

    @classmethod
    def of(cls, recording: Recording, info: VideoInfo, first_picture_s: float) -> Sound:
        """Raises Unusable when there is no sound."""
        apart = recording.sound or (None if info.sound_rate else sound_beside(recording.video))
        if apart is None and not info.sound_rate:
            raise Unusable("no sound track, and no sound file of the same name beside it")
        return cls(apart or recording.video, first_picture_s if apart else 0.0)

    def listen(self, start_s: float, seconds: float) -> np.ndarray:
        """[seconds * 16000] float32 from the video's time `start_s` on. Raises VideoError."""
        return sound(self.path, start_s - self.zero_s, seconds)


@dataclass(frozen=True)
class Take:
    """A stretch ready to be written. Arrays have a row for each of its pictures."""

    recording: Recording
    stretch: Stretch
    sound: Sound
    faces: face.Faces
    blink: np.ndarray
    square: Square
    offset: sync.Offset
    width: int  # of the source picture, pixels
    height: int

    @classmethod
    def of(cls, recording: Recording, stretch: Stretch, heard: Sound, track: Track) -> Take:
        """Reads the stretch. Raises Unusable when it is silent or too tightly framed, VideoError for broken sound."""
        faces = face.read(stretch.mesh)
        rate = (len(stretch.times) - 1) / (stretch.times[-1] - stretch.times[0])
        square = steady_square(faces.pivot, faces.pixels_per_cm, rate)
        if square.inside(track.width, track.height) < LEAST_INSIDE:
            raise Unusable("the picture ends so close to the face that head and bust are not in it")
        audio = heard.listen(stretch.times[0], float(stretch.times[-1] - stretch.times[0]))
        if np.abs(audio).max(initial=0) < QUIET_PEAK:
            raise Unusable("the sound track is silent")
        offset = sync.estimate(audio, stretch.times - stretch.times[0], faces.aperture, faces.width)
        return cls(
            recording, stretch, heard, faces, face.blink(faces.opening), square, offset, track.width, track.height
        )

    @property
    def start_s(self) -> float:
        return float(self.stretch.times[0])

    @property
    def seconds(self) -> float:
        return float(self.stretch.times[-1] - self.stretch.times[0])
