"""How the voice moves the head: stress and activity from loudness alone, hop by hop.

People nod where they stress and keep stiller while they listen. Steady noise, however loud, has neither stress nor movement.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.manifest import HOP_SAMPLES, RATE

_HOP_S = HOP_SAMPLES / RATE
_FLOOR_DB, _SPAN_DB = -50.0, 35.0  # level 0 .. 1
_QUICK_S, _SLOW_S, _CALM_S = 0.05, 1.5, 0.8
_NOD_PER_S = 14.0  # stiffness of the neck


@dataclass(frozen=True)
class Prosody:
    """`stress` 0..1 rises and falls with accented syllables; `activity` 0..1 is how much is being said, over seconds."""

    stress: float = 0.0
    activity: float = 0.0


SILENT = Prosody()


class ProsodyFollower:
    """Turns hops of 160 samples into `Prosody`; causal, and the same however the sound is cut up. One thread."""

    def __init__(self) -> None:
        self._quick = self._slow = self._moving = self._nod = self._nod_speed = 0.0

    def push(self, hop: NDArray[np.float32]) -> Prosody:
        """One hop of 16 kHz mono samples -> the prosody at its end."""
        power = float(np.dot(hop, hop)) / len(hop)
        level = min(max((10 * math.log10(power + 1e-10) - _FLOOR_DB) / _SPAN_DB, 0.0), 1.0)
        change = abs(level - self._quick)
        self._quick += (level - self._quick) * (1 - math.exp(-_HOP_S / _QUICK_S))
        self._slow += (level - self._slow) * (1 - math.exp(-_HOP_S / _SLOW_S))
        # Speech is never steady: its level moves all the time, that of a fan does not.
        self._moving += (min(change * 4, 1.0) - self._moving) * (1 - math.exp(-_HOP_S / _CALM_S))
        aim = min(max((self._quick - self._slow - 0.06) * 3, 0.0), 1.0) * min(self._moving * 3, 1.0)
        # A critically damped spring, solved exactly for one hop: heads have mass.
        gap, fade = self._nod - aim, math.exp(-_NOD_PER_S * _HOP_S)
        drive = self._nod_speed + _NOD_PER_S * gap
        self._nod = aim + (gap + drive * _HOP_S) * fade
        self._nod_speed = (self._nod_speed - _NOD_PER_S * drive * _HOP_S) * fade
        return Prosody(min(max(self._nod, 0.0), 1.0), min(self._moving * self._slow * 4, 1.0))
