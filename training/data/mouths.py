"""Mouths of a corpus, cut out by its landmarks and kept small: what SyncNet learns from and is asked about.

    python -m training.data.mouths --corpus corpora/full256 --out corpora/mouths32

A mouth is a square as wide as 0.95 of the distance of the outer eye corners, about the mean of the lips over half a
second, so that the head's own motion is mostly taken out and that of the jaw is not. Pictures are brought to 128 pixels
first, for that is what the tables are measured at. OUT/<clip>.npy holds `[frames, side, side, 3]` uint8; clips that are
there are left as they are, so a killed run goes on, and so does one whose corpus has got more pixels since.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from rich.progress import Progress

from training.data.clip import Clip, ClipError, Corpus
from training.data.stored import stored_frames
from training.metrics.image import over_grey

PICTURE = 128  # pixels
WIDTH, LOWER = 0.95, 0.10  # of the distance of the outer eye corners: the side, and how far below the lips' mean
STEADY_FRAMES = 15
LIPS, EYE_CORNERS = slice(48, 68), (36, 45)  # iBUG order
Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class MouthsConfig:
    """Which corpus, where to and how small."""

    corpus: Path = Path("corpora/full256")
    out: Path = Path("corpora/mouths32")
    side: int = 32


def mouth_boxes(landmarks: NDArray[np.floating], size: int) -> Boxes:
    """`[n, 68, 2]` pixels of pictures `size` wide -> `[n, 3]`: middle x, y and side of the mouth, shares of the picture."""
    apart = np.linalg.norm(landmarks[:, EYE_CORNERS[1]] - landmarks[:, EYE_CORNERS[0]], axis=1)
    eyes = np.full(len(landmarks), np.quantile(apart, 0.9))  # a turned head has its eyes nearer, not a smaller mouth
    middle = landmarks[:, LIPS].mean(1) + np.stack([0 * eyes, LOWER * eyes], 1)
    wide = min(STEADY_FRAMES, len(middle))
    edge = wide // 2
    padded = np.concatenate([middle[:1].repeat(edge, 0), middle, middle[-1:].repeat(wide - 1 - edge, 0)])
    sums = np.cumsum(np.concatenate([np.zeros((1, 2)), padded]), 0)
    steady = (sums[wide:] - sums[:-wide]) / wide
    return (np.concatenate([steady, WIDTH * eyes[:, None]], 1) / size).astype(np.float32)


def cut_mouth(picture: NDArray[np.uint8], box: NDArray[np.floating], side: int) -> NDArray[np.uint8]:
    """The box of an RGB picture `[S, S, 3]` or of a straight RGBA one, over mid grey -> `[side, side, 3]` RGB."""
    size, shrink = len(picture), max(1, len(picture) // PICTURE)
    x, y, wide = (float(v) * size for v in box)
    # around the box with a rim, on the grid of the smaller picture
    low = [int(max(0, v - wide / 2 - 4 * shrink)) // shrink * shrink for v in (x, y)]
    low = [min(v, size - 2 * shrink) for v in low]
    high = [min(size, max(a + 2 * shrink, int(v + wide / 2 + 4 * shrink))) for a, v in zip(low, (x, y))]
    near = picture[low[1] : high[1], low[0] : high[0]]
    if near.shape[2] == 4:
        near = np.round(255 * over_grey(near)).astype(np.uint8)
    if shrink > 1:
        across, down = (b - a + shrink - 1 for a, b in zip(low, high))
        near = cv2.resize(near, (across // shrink, down // shrink), interpolation=cv2.INTER_AREA)
    scale = wide / shrink / side
    left, top = ((v - wide / 2 - a) / shrink for v, a in zip((x, y), low))
    map_back = np.array([[scale, 0, left + 0.5 * scale - 0.5], [0, scale, top + 0.5 * scale - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(near, map_back, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return cut.astype(np.uint8)


def cut_clip(clip: Clip, side: int) -> NDArray[np.uint8]:
    """All mouths of a clip with pixels, `[frames, side, side, 3]`. Raises ClipError."""
    boxes = mouth_boxes(clip.truth().landmarks, clip.info.size)
    mouths = [cut_mouth(picture, box, side) for picture, box in zip(stored_frames(clip), boxes)]
    if len(mouths) != clip.info.frames:
        raise ClipError(f"{clip.folder}: expected {clip.info.frames} frames, its pixels end at {len(mouths)}")
    return np.stack(mouths)


def cut(config: MouthsConfig) -> int:
    """Cuts what is missing of clips that have pixels; returns how many mouths files there are. Raises ClipError."""
    config.out.mkdir(parents=True, exist_ok=True)
    clips = [clip for clip in Corpus(config.corpus) if clip.has_pixels()]
    if not clips:
        raise ClipError(f"{config.corpus}: no clip has pixels; draw them: python -m training.rig.corpus OUT --rerender")
    with Progress() as bar:
        for clip in bar.track(clips, description="mouths"):
            path = config.out / f"{clip.info.id}.npy"
            if not path.is_file():
                part = path.with_name(f".{path.name}.{os.getpid()}.npy")
                np.save(part, cut_clip(clip, config.side))
                os.replace(part, path)
    return len(clips)


def main() -> int:
    try:
        config = tyro.cli(MouthsConfig)
        count = cut(config)
        print(f"{count} clips have mouths in {config.out}", file=sys.stderr)
    except (ClipError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
