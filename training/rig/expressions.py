"""The 60 expression weights, the six emotions and the viseme targets, as tables. Needs no head pack.

Weights follow ARKit's names with `_L` and `_R`, plus tongueUp, tongueOut and tongueBack. In the tables below a
name without a side sets both.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

EXPRESSIONS: tuple[str, ...] = (
    "PupilDilate_L",
    "PupilDilate_R",
    "browDown_L",
    "browDown_R",
    "browInnerUp_L",
    "browInnerUp_R",
    "browOuterUp_L",
    "browOuterUp_R",
    "cheekPuff_L",
    "cheekPuff_R",
    "cheekRaiser_L",
    "cheekRaiser_R",
    "cheekSquint_L",
    "cheekSquint_R",
    "eyeBlink_L",
    "eyeBlink_R",
    "eyeLookDown_L",
    "eyeLookDown_R",
    "eyeLookIn_L",
    "eyeLookIn_R",
    "eyeLookOut_L",
    "eyeLookOut_R",
    "eyeLookUp_L",
    "eyeLookUp_R",
    "eyeSquint_L",
    "eyeSquint_R",
    "eyeWide_L",
    "eyeWide_R",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthDimple_L",
    "mouthDimple_R",
    "mouthFrown_L",
    "mouthFrown_R",
    "mouthFunnel",
    "mouthLeft",
    "mouthLowerDown_L",
    "mouthLowerDown_R",
    "mouthPress_L",
    "mouthPress_R",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthSmile_L",
    "mouthSmile_R",
    "mouthStretch_L",
    "mouthStretch_R",
    "mouthUpperUp_L",
    "mouthUpperUp_R",
    "noseSneer_L",
    "noseSneer_R",
    "tongueUp",
    "tongueOut",
    "tongueBack",
)
INDEX: Mapping[str, int] = {name: i for i, name in enumerate(EXPRESSIONS)}
EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
GAZE_TO_LIDS = 1.6  # eyeLook weight per radian of gaze pitch

_EMOTIONS = {
    "anger": {
        "browDown": 1.3, "browInnerUp": -0.25, "eyeSquint": 0.4, "eyeWide": 0.35, "noseSneer": 0.42,
        "mouthPress": 0.5, "mouthFrown": 0.4, "mouthShrugLower": 0.25, "jawForward": 0.25, "mouthStretch": 0.12,
        "mouthRollUpper": 0.1, "cheekRaiser": 0.15,
    },
    "disgust": {
        "noseSneer": 0.95, "mouthUpperUp": 0.5, "browDown": 0.5, "eyeSquint": 0.45, "cheekSquint": 0.45,
        "mouthFrown": 0.4, "mouthShrugLower": 0.22, "mouthLowerDown_L": 0.12, "cheekRaiser": 0.25,
    },
    "fear": {
        "browInnerUp": 0.9, "browOuterUp": 0.5, "browDown": 0.25, "eyeWide": 0.85, "mouthStretch": 0.6,
        "jawOpen": 0.12, "mouthLowerDown": 0.2, "mouthFrown": 0.15,
    },
    "happy": {
        "mouthSmile": 0.82, "cheekSquint": 0.5, "cheekRaiser": 0.35, "eyeSquint": 0.25, "mouthUpperUp": 0.2,
        "mouthDimple": 0.12, "browOuterUp": 0.12, "jawOpen": 0.03,
    },
    "neutral": {},
    "sad": {
        "browInnerUp": 0.85, "browDown": 0.12, "mouthFrown": 0.6, "mouthShrugLower": 0.38, "eyeSquint": 0.15,
        "eyeBlink": 0.16, "mouthPress": 0.1,
    },
}  # fmt: skip

_VISEMES = {
    "sil": {},
    "A": {"jawOpen": 0.54, "mouthLowerDown": 0.25, "mouthUpperUp": 0.26, "mouthStretch": 0.08},
    "E": {
        "jawOpen": 0.26, "mouthStretch": 0.25, "mouthSmile": 0.15, "mouthLowerDown": 0.30, "mouthUpperUp": 0.18,
        "tongueUp": 0.25,
    },
    "I": {
        "jawOpen": 0.12, "mouthStretch": 0.38, "mouthSmile": 0.25, "mouthLowerDown": 0.34, "mouthUpperUp": 0.20,
        "tongueUp": 0.45,
    },
    "O": {"jawOpen": 0.36, "mouthFunnel": 0.62, "mouthPucker": 0.28},
    "U": {"jawOpen": 0.13, "mouthPucker": 0.85, "mouthFunnel": 0.28},
    "MBP": {"jawOpen": 0.02, "mouthClose": 0.02, "mouthPress": 0.32, "mouthRollLower": 0.18, "mouthRollUpper": 0.14},
    "FV": {"jawOpen": 0.10, "mouthRollLower": 0.62, "mouthUpperUp": 0.42, "mouthShrugLower": 0.22},
    "L": {"jawOpen": 0.24, "mouthLowerDown": 0.26, "mouthUpperUp": 0.16, "tongueUp": 1.0},
    "TH": {"jawOpen": 0.18, "mouthLowerDown": 0.30, "mouthUpperUp": 0.18, "tongueOut": 1.0},
    "S": {"jawOpen": 0.07, "mouthStretch": 0.22, "mouthLowerDown": 0.36, "mouthUpperUp": 0.22, "tongueUp": 0.4},
    "SH": {"jawOpen": 0.13, "mouthFunnel": 0.62, "mouthPucker": 0.18, "mouthLowerDown": 0.14},
    "R": {"jawOpen": 0.18, "mouthFunnel": 0.38, "mouthPucker": 0.28},
    "K": {"jawOpen": 0.22, "mouthLowerDown": 0.18, "mouthUpperUp": 0.08, "tongueBack": 0.6},
    "T": {"jawOpen": 0.14, "mouthLowerDown": 0.30, "mouthUpperUp": 0.16, "tongueUp": 0.85},
}  # fmt: skip
VISEMES = tuple(_VISEMES)


def expression(weights: Mapping[str, float]) -> NDArray[np.float32]:
    """[60] float32 from names; a name without `_L` / `_R` sets both sides. Raises KeyError on an unknown name."""
    out = np.zeros(len(EXPRESSIONS), np.float32)
    for name, value in weights.items():
        for full in (name,) if name in INDEX else (name + "_L", name + "_R"):
            out[INDEX[full]] += value
    return out


EMOTION_WEIGHTS: NDArray[np.float32] = np.stack([expression(_EMOTIONS[name]) for name in EMOTIONS])  # [6, 60]
VISEME_WEIGHTS: NDArray[np.float32] = np.stack([expression(_VISEMES[name]) for name in VISEMES])  # [15, 60]


def emotion_expression(name: str, intensity: float = 1.0) -> NDArray[np.float32]:
    """[60] weights of one of EMOTIONS."""
    return EMOTION_WEIGHTS[EMOTIONS.index(name)] * np.float32(intensity)


def viseme_expression(name: str, strength: float = 1.0) -> NDArray[np.float32]:
    """[60] weights of one of VISEMES."""
    return VISEME_WEIGHTS[VISEMES.index(name)] * np.float32(strength)


def with_eyes(weights: ArrayLike, gaze: ArrayLike = (0.0, 0.0), blink: ArrayLike = 0.0) -> NDArray[np.float32]:
    """Adds the blink and the lids' share of gaze, as docs/formats.md lays down.

    weights [..., 60], gaze [..., 2] radians (yaw, pitch), blink [...] 0..1 -> [..., 60] float32.
    """
    out = np.array(weights, np.float32)
    pitch = np.asarray(gaze, np.float32)[..., 1]
    shut = np.asarray(blink, np.float32)
    for side in ("_L", "_R"):
        lid = INDEX["eyeBlink" + side]
        out[..., lid] += (1 - out[..., lid]) * shut
        for name in ("eyeWide", "eyeSquint"):
            out[..., INDEX[name + side]] *= 1 - shut
        out[..., INDEX["eyeLookUp" + side]] += GAZE_TO_LIDS * np.maximum(pitch, 0)
        out[..., INDEX["eyeLookDown" + side]] += GAZE_TO_LIDS * np.maximum(-pitch, 0)
    return out
