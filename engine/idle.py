"""What a face does when nobody asks it to: blinks, glances, sway and breath, as pure functions of stream time.

Each motion is either a sum of slow sines or a lookup in time slots whose content is a hash of (seed, slot). Nothing
accumulates, so an hour in looks like the first minute, any frame can be drawn alone, and one seed always gives one
performance.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.controls import GAZE_LIMIT, Controls, GazeMode
from engine.prosody import SILENT, Prosody

Array = NDArray[np.float32]

_BLINK_SLOT_S, _BLINK_MOST = 1.5, 40.0  # one chance to blink a slot; every slot blinks at 40 a minute
_CLOSE_S, _HOLD_S, _OPEN_S = 0.085, 0.03, 0.17
_GLANCE_SLOT_S, _GLANCE_MOVE_S = 0.7, 0.05
_MICRO_RAD, _WANDER_RAD = 0.012, (0.16, 0.07)
# (amplitude, frequencies in Hz): frequencies share no simple ratio, so the sway does not repeat within an hour.
_SWAY_RAD = ((0.022, (0.071, 0.173, 0.297)), (0.014, (0.061, 0.149, 0.263)), (0.012, (0.083, 0.131, 0.227)))
_SWAY_CM = (0.12, (0.053, 0.117, 0.211))
# A stressed syllable lowers the head by up to 1.7 degrees; a speaker sways up to twice as far as a listener.
_NOD_RAD, _LIVELY = 0.03, 1.0
_BREATH_HZ, _BREATH_CM, _BREATH_PITCH_RAD = 0.27, 0.09, 0.005


@dataclass(frozen=True)
class Motion:
    """All that the decoder is told besides sound: emotion [6], pose [3], shift [3], gaze [2], blink [1]; float32,
    docs/formats.md.
    """

    emotion: Array
    pose: Array
    shift: Array
    gaze: Array
    blink: Array


def _chance(seed: int, kind: int, slot: int) -> float:
    """A hash of three integers as a number 0..1. Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + kind * 0xD1B54A32D192ED03 + slot * 0x8CB92BA72F3D8DD7) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return float((z ^ (z >> 31)) >> 11) / float(1 << 53)


def _smooth(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)


def blink_at(seconds: float, per_minute: float, seed: int = 0) -> float:
    """How far blinks close the lids, 0 open .. 1 closed: quick to close, slower to open, at irregular intervals."""
    closed = 0.0
    slot = math.floor(seconds / _BLINK_SLOT_S)
    for at in (slot - 1, slot):
        if _chance(seed, 1, at) < per_minute / _BLINK_MOST:
            since = seconds - (at + 0.75 * _chance(seed, 2, at)) * _BLINK_SLOT_S
            closed = max(closed, min(_smooth(since / _CLOSE_S), 1.0 - _smooth((since - _CLOSE_S - _HOLD_S) / _OPEN_S)))
    return closed


def _fixation(slot: int, seed: int, span: tuple[float, float], rest: float) -> tuple[float, float]:
    """Where the eyes rest in a slot; a slot keeps the previous one's place with probability `rest`."""
    for back in range(6):
        if _chance(seed, 3, slot - back) >= rest or back == 5:
            at = slot - back
            return tuple(side * (2.0 * _chance(seed, 4 + axis, at) - 1.0) for axis, side in enumerate(span))  # type: ignore[return-value]
    raise AssertionError


def glance_at(seconds: float, span: tuple[float, float], rest: float, seed: int = 0) -> tuple[float, float]:
    """(yaw, pitch) in radians of eyes that fixate, then jump: within +-`span`, staying put from slot to slot with
    chance `rest`.
    """
    slot = math.floor(seconds / _GLANCE_SLOT_S)
    start = (slot + 0.4 * _chance(seed, 6, slot)) * _GLANCE_SLOT_S  # the jump may come a little late
    part = _smooth((seconds - start) / _GLANCE_MOVE_S)
    before, now = _fixation(slot - 1, seed, span, rest), _fixation(slot, seed, span, rest)
    return before[0] + part * (now[0] - before[0]), before[1] + part * (now[1] - before[1])


def _wave(seconds: float, frequencies: tuple[float, ...], seed: int, kind: int) -> float:
    """A slow wander within about +-1."""
    waves = (
        math.sin(2 * math.pi * (f * seconds + _chance(seed, kind, i))) / (i + 1) for i, f in enumerate(frequencies)
    )
    return sum(waves) / 1.5


def eyes_on_camera(pose: tuple[float, ...]) -> tuple[float, float]:
    """Gaze (yaw, pitch) relative to a head of this pose that looks along +z: R^T z, with R = Ry Rx Rz."""
    yaw, pitch, roll = pose
    x, y, z = -math.sin(yaw), math.cos(yaw) * math.sin(pitch), math.cos(yaw) * math.cos(pitch)
    x, y = x * math.cos(roll) + y * math.sin(roll), y * math.cos(roll) - x * math.sin(roll)
    return math.atan2(x, z), math.asin(min(max(y, -1.0), 1.0))


def _gaze(
    mode: GazeMode, seconds: float, gaze: tuple[float, ...], pose: tuple[float, ...], idle: float, seed: int
) -> Array:
    small = glance_at(seconds, (_MICRO_RAD * idle, _MICRO_RAD * idle), 0.2, seed)
    yaw, pitch = gaze[0] + small[0], gaze[1] + small[1]
    if mode != "fixed":
        camera = eyes_on_camera(pose)
        yaw, pitch = yaw + camera[0], pitch + camera[1]
    if mode == "wander":
        far = glance_at(seconds, _WANDER_RAD, 0.6, seed + 1)
        yaw, pitch = yaw + far[0], pitch + far[1]
    return np.clip(np.array([yaw, pitch], np.float32), -GAZE_LIMIT, GAZE_LIMIT)


def move(controls: Controls, seconds: float, seed: int = 0, voice: Prosody = SILENT) -> Motion:
    """What the face does at stream time `seconds`: the controls, the idle motion on top, and the head's share in what is said."""
    amount = controls.idle
    lively = amount * (1 + _LIVELY * voice.activity)
    sway = [a * lively * _wave(seconds, hz, seed, 10 + axis) for axis, (a, hz) in enumerate(_SWAY_RAD)]
    breath = amount * math.sin(2 * math.pi * (_BREATH_HZ * seconds + _chance(seed, 20, 0)))
    nod = amount * _NOD_RAD * voice.stress - _BREATH_PITCH_RAD * breath
    pose = (controls.pose[0] + sway[0], controls.pose[1] + sway[1] + nod, controls.pose[2] + sway[2])
    side = amount * _SWAY_CM[0] * _wave(seconds, _SWAY_CM[1], seed, 21)
    shift = (controls.shift[0] + side, controls.shift[1] + _BREATH_CM * breath, controls.shift[2])
    blink = blink_at(seconds, controls.blink_rate, seed) if amount > 0 else 0.0
    return Motion(
        emotion=np.array(controls.emotion, np.float32) * np.float32(controls.intensity),
        pose=np.array(pose, np.float32),
        shift=np.array(shift, np.float32),
        gaze=_gaze(controls.gaze_mode, seconds, controls.gaze, pose, amount, seed),
        blink=np.array([controls.blink + (1 - controls.blink) * blink], np.float32),
    )
