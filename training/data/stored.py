"""The stored pixels of a clip, quickly: frames that nobody asks for are decoded but not converted."""

from __future__ import annotations

from collections.abc import Container, Iterator

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from training.data.clip import Clip, ClipError


def stored_frames(clip: Clip, wanted: Container[int] | None = None) -> Iterator[NDArray[np.uint8]]:
    """`[S, S, 4]` RGBA with straight alpha, of the frames wanted (all, if not said), in order.

    One converter serves all frames: making one for each takes ten times as long as the conversion. Raises ClipError.
    """
    if not clip.has_pixels():
        raise ClipError(f"{clip.folder}: has no pixels yet; draw them: python -m training.rig.corpus OUT --rerender")
    colours, covers = VideoReformatter(), VideoReformatter()
    try:
        with av.open(str(clip.folder / "rgb.mp4")) as rgb, av.open(str(clip.folder / "alpha.mp4")) as alpha:
            for k, (colour, cover) in enumerate(zip(rgb.decode(video=0), alpha.decode(video=0))):
                if wanted is None or k in wanted:
                    straight = colours.reformat(colour, format="rgb24").to_ndarray()
                    yield np.dstack([straight, covers.reformat(cover, format="gray").to_ndarray()])
    except (av.error.FFmpegError, OSError) as error:
        raise ClipError(f"{clip.folder}: cannot read its pixels ({error})") from error
