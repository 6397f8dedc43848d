"""What a person asks of the face: frozen settings, their command-line spelling, and their smooth motion in
stream time.
"""

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engine.errors import ControlError
from engine.manifest import EMOTIONS

GazeMode = Literal["camera", "wander", "fixed"]
BackgroundKind = Literal["colour", "image", "blurred", "transparent"]
POSE_AXES = ("yaw", "pitch", "roll")
POSE_LIMIT = tuple(math.radians(d) for d in (25.0, 15.0, 15.0))
GAZE_LIMIT = math.radians(30.0)
SHIFT_LIMIT_CM = 4.0
COLOURS = {
    "green": (0, 177, 64),  # chroma key
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "blue": (0, 71, 187),
}
FROM_VOICE = "from-voice"
Vector = tuple[float, ...]


@dataclass(frozen=True)
class Background:
    """What stands behind the bust: a colour (R, G, B), a picture file, the same blurred, or nothing."""

    kind: BackgroundKind = "colour"
    colour: tuple[int, int, int] = (200, 206, 212)
    image: Path | None = None


@dataclass(frozen=True)
class Framing:
    """Where the bust stands in the camera frame: `zoom` 1 fills its height; offsets are shares of that height,
    right and up.
    """

    zoom: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0


@dataclass(frozen=True)
class Controls:
    """What the person asks for. Angles in radians, `shift` in cm, by docs/formats.md; out-of-range values raise
    `ControlError`.

    emotion: six weights 0..1 in the order of `EMOTIONS`, multiplied by `intensity`. pose, shift and gaze add to the
    idle motion, which `idle` (0..2) scales. gaze_mode: `camera` keeps the eyes on the viewer however the head turns,
    `wander` looks about, `fixed` holds `gaze` relative to the head. blink: how far the lids are held closed;
    blink_rate: blinks a minute. person: a name in the pack, None for the first. mirror: flip the camera frame, as a
    mirror would. auto_emotion: how much of the mood in the voice joins the knobs; person_from_voice: whoever the voice
    fits is shown, `person` until that is known. Both need an avatar with a voice reader.
    """

    emotion: Vector = (0.0,) * 6
    intensity: float = 1.0
    pose: Vector = (0.0, 0.0, 0.0)
    shift: Vector = (0.0, 0.0, 0.0)
    gaze: Vector = (0.0, 0.0)
    gaze_mode: GazeMode = "camera"
    blink: float = 0.0
    blink_rate: float = 17.0
    idle: float = 1.0
    person: str | None = None
    background: Background = field(default_factory=Background)
    framing: Framing = field(default_factory=Framing)
    mirror: bool = False
    auto_emotion: float = 0.0
    person_from_voice: bool = False

    def __post_init__(self) -> None:
        _check("emotion", self.emotion, (0.0,) * 6, (1.0,) * 6)
        _check("pose", self.pose, tuple(-p for p in POSE_LIMIT), POSE_LIMIT)
        _check("shift", self.shift, (-SHIFT_LIMIT_CM,) * 3, (SHIFT_LIMIT_CM,) * 3)
        _check("gaze", self.gaze, (-GAZE_LIMIT,) * 2, (GAZE_LIMIT,) * 2)
        amounts = (("intensity", 1.0), ("blink", 1.0), ("blink_rate", 40.0), ("idle", 2.0), ("auto_emotion", 1.0))
        for name, high in amounts:
            _check(name, (getattr(self, name),), (0.0,), (high,))
        framing = self.framing
        _check("framing", (framing.zoom, framing.offset_x, framing.offset_y), (0.2, -1.0, -1.0), (4.0, 1.0, 1.0))
        if self.gaze_mode not in get_args(GazeMode):
            raise ControlError(f"gaze mode {self.gaze_mode!r} is unknown; choose {', '.join(get_args(GazeMode))}")


def _check(name: str, values: Vector, low: Vector, high: Vector) -> None:
    if len(values) != len(low):
        raise ControlError(f"{name} needs {len(low)} numbers, found {len(values)}")
    for value, least, most in zip(values, low, high):
        if not least - 1e-6 <= value <= most + 1e-6:  # also refuses NaN
            raise ControlError(f"{name} {value:g} is out of range {least:g} .. {most:g}")


def _pairs(text: str, names: tuple[str, ...], what: str) -> dict[str, float]:
    """Reads `name=number,name=number`; a bare name means 1."""
    found: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, number = part.partition("=")
        name = name.strip()
        if name not in names:
            raise ControlError(f"{what} {name!r} is unknown; choose {', '.join(names)}")
        try:
            found[name] = float(number) if number else 1.0
        except ValueError:
            raise ControlError(f"{what} {part!r}: expected {name}=NUMBER, such as {name}=0.5") from None
    return found


def parse_emotion(text: str) -> Vector:
    """`happy=0.7,sad=0.2` or `happy` -> six weights in the order of `EMOTIONS`."""
    found = _pairs(text, EMOTIONS, "emotion")
    weights = tuple(found.get(name, 0.0) for name in EMOTIONS)
    _check("emotion", weights, (0.0,) * 6, (1.0,) * 6)
    return weights


def parse_mood(text: str) -> tuple[Vector, float]:
    """`auto`, `auto=0.8` or `auto=0.8,happy=0.3` besides what `parse_emotion` reads -> six weights, and how much of the
    voice's own mood joins them.
    """
    found = _pairs(text, ("auto", *EMOTIONS), "emotion")
    auto = found.pop("auto", 0.0)
    _check("emotion auto", (auto,), (0.0,), (1.0,))
    return parse_emotion(",".join(f"{name}={weight}" for name, weight in found.items())), auto


def parse_person(text: str | None) -> tuple[str | None, bool]:
    """A name, or `from-voice` -> (name or None, whether the voice decides)."""
    return (None, True) if text == FROM_VOICE else (text, False)


def parse_pose(text: str) -> Vector:
    """`yaw=10,pitch=-5` in degrees -> (yaw, pitch, roll) in radians."""
    found = _pairs(text, POSE_AXES, "pose")
    for name, limit in zip(POSE_AXES, POSE_LIMIT):
        if not abs(found.get(name, 0.0)) <= math.degrees(limit) + 1e-6:
            raise ControlError(
                f"pose {name}={found[name]:g} is out of range; at most {math.degrees(limit):g} degrees either way"
            )
    return tuple(math.radians(found.get(name, 0.0)) for name in POSE_AXES)


def parse_gaze(text: str) -> tuple[GazeMode, Vector]:
    """`camera`, `wander`, or `yaw=10,pitch=5` in degrees -> (mode, (yaw, pitch) in radians)."""
    if text == "camera" or text == "wander":
        return ("camera" if text == "camera" else "wander"), (0.0, 0.0)
    found = _pairs(text, ("yaw", "pitch"), "gaze")
    gaze = tuple(math.radians(found.get(name, 0.0)) for name in ("yaw", "pitch"))
    _check("gaze (radians)", gaze, (-GAZE_LIMIT,) * 2, (GAZE_LIMIT,) * 2)
    return "fixed", gaze


def parse_background(text: str) -> Background:
    """`green`, `#rrggbb`, another colour's name, `transparent`, `FILE`, or `blur:FILE`."""
    if text == "transparent":
        return Background("transparent")
    if text in COLOURS:
        return Background("colour", COLOURS[text])
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        return Background("colour", (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)))
    image = Path(text.removeprefix("blur:"))
    if not image.is_file():
        names = ", ".join(COLOURS)
        raise ControlError(
            f"background {text!r}: no such picture; give a file, blur:FILE, #rrggbb, transparent, or one of {names}"
        )
    return Background("blurred" if text.startswith("blur:") else "image", image=image)


def parse_framing(text: str) -> Framing:
    """`zoom=1.2,x=0.1,y=-0.05` -> `Framing`."""
    found = _pairs(text, ("zoom", "x", "y"), "framing")
    framing = Framing(found.get("zoom", 1.0), found.get("x", 0.0), found.get("y", 0.0))
    return Controls(framing=framing).framing


# Seconds to come within 10% of a target that jumps: lids and eyes are quick, heads and moods are not.
_SETTLE_SECONDS = {
    "emotion": 0.5, "auto": 0.5, "pose": 0.35, "shift": 0.35, "gaze": 0.12, "blink": 0.1, "idle": 0.6, "framing": 0.4
}  # fmt: skip
_CRITICAL = 3.89  # (1 + x) exp(-x) = 0.1


def _pack(controls: Controls) -> NDArray[np.float64]:
    framing = controls.framing
    emotion = [w * controls.intensity for w in (*controls.emotion, controls.auto_emotion)]
    frame = [framing.zoom, framing.offset_x, framing.offset_y]
    return np.array([*emotion, *controls.pose, *controls.shift, *controls.gaze, controls.blink, controls.idle, *frame])


class SmoothedControls:
    """Controls that follow a target without jumps or overshoot: a critically damped spring on each number, in stream
    time.

    The spring is solved exactly, so the path does not depend on how often it is asked. What is not a number (person,
    background, gaze mode, mirror, blink rate) follows at once. One thread calls `at`; times never run backwards.
    Source: x'' = w^2 (target - x) - 2 w x'.
    """

    def __init__(self, start: Controls | None = None) -> None:
        self._value = _pack(start or Controls())
        self._speed = np.zeros_like(self._value)
        self._seconds: float | None = None
        sizes = {"emotion": 6, "auto": 1, "pose": 3, "shift": 3, "gaze": 2, "blink": 1, "idle": 1, "framing": 3}
        self._rate = np.concatenate([np.full(n, _CRITICAL / _SETTLE_SECONDS[name]) for name, n in sizes.items()])

    def at(self, seconds: float, target: Controls) -> Controls:
        """The controls at stream time `seconds` when `target` has been asked for since the last call; intensity is
        folded in.
        """
        elapsed = 0.0 if self._seconds is None else max(0.0, seconds - self._seconds)
        self._seconds = seconds
        rate, goal = self._rate, _pack(target)
        gap, fade = self._value - goal, np.exp(-self._rate * elapsed)
        drive = self._speed + rate * gap
        self._value = goal + (gap + drive * elapsed) * fade
        self._speed = (self._speed - rate * drive * elapsed) * fade
        x = [float(v) for v in self._value]
        return replace(
            target,
            emotion=tuple(min(max(w, 0.0), 1.0) for w in x[:6]),
            intensity=1.0,
            auto_emotion=min(max(x[6], 0.0), 1.0),
            pose=tuple(x[7:10]),
            shift=tuple(x[10:13]),
            gaze=tuple(x[13:15]),
            blink=min(max(x[15], 0.0), 1.0),
            idle=min(max(x[16], 0.0), 2.0),
            framing=Framing(*x[17:20]),
        )
