"""Mouthpiece: speech goes in, a speaking face comes out, live.

    import numpy as np
    from engine import Animator, Controls, open_avatar, parse_emotion

    avatar = open_avatar("cast.avatar")
    animator = Animator(avatar, person=avatar.people[0])
    controls = Controls(emotion=parse_emotion("happy=0.7"))
    for chunk in np.zeros((100, 160), np.float32):  # 16 kHz mono, here a second of silence
        animator.push(chunk)
        while animator.frames_due():
            frame = animator.next_frame(controls)
            picture = frame.straight()  # [512, 512, 4] uint8 RGBA, due at frame.time seconds

`LiveEngine` does the same with a microphone, a virtual camera and threads; `python -m engine` is the command line.
"""

from typing import TYPE_CHECKING, Any

from engine.animator import Animator, Frame
from engine.avatar import Avatar, default_avatar, open_avatar
from engine.controls import (
    Background,
    Controls,
    Framing,
    SmoothedControls,
    parse_background,
    parse_emotion,
    parse_framing,
    parse_gaze,
    parse_pose,
)
from engine.errors import MouthpieceError

if TYPE_CHECKING:
    from engine.live import LiveEngine

__all__ = [
    "Animator",
    "Avatar",
    "Background",
    "Controls",
    "Frame",
    "Framing",
    "LiveEngine",
    "MouthpieceError",
    "SmoothedControls",
    "default_avatar",
    "open_avatar",
    "parse_background",
    "parse_emotion",
    "parse_framing",
    "parse_gaze",
    "parse_pose",
]


def __getattr__(name: str) -> Any:
    # Sound devices and threads are loaded only by those who want them.
    if name == "LiveEngine":
        from engine.live import LiveEngine

        return LiveEngine
    raise AttributeError(f"module 'engine' has no attribute {name!r}")
