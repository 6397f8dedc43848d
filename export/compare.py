"""Is the face on one back end the face on another? Both run the same pack; no checkpoint and no torch is needed.

    python -m export.compare cast.avatar --backend tensorrt --precision fp16

The encoder hears `--hops` hops, each side with its own state, so that drift shows; then frames are drawn from real
contexts with conditions all over their ranges. Exits with 1 if a picture falls below what the precision allows.
"""

import sys
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from engine.avatar import Avatar, open_avatar
from engine.backends import load_graphs
from engine.backends.plans import Precision
from engine.errors import MouthpieceError
from export.convert import TARGET_DB, make_scene, picture, psnr_db
from export.signals import speech_like

FP32_DB = 60.0
DRIFT = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 2e-2}  # of the largest context; int8 has a fp16 encoder


def drift(avatar: Avatar, backend: str, reference: str, hops: int) -> float:
    """Largest difference of contexts over `hops` hops, as a share of the largest context."""
    sides = [load_graphs([avatar.graph("audio_encoder")], name).graphs[0] for name in (backend, reference)]
    try:
        states, worst, largest = [graph.initial() for graph in sides], 0.0, 1e-9
        for hop in speech_like(hops):
            steps = [graph.step(state, {"samples": hop[None]}) for graph, state in zip(sides, states)]
            states = [state for state, _ in steps]
            found, expected = (outputs["context"] for _, outputs in steps)
            worst = max(worst, float(np.abs(found - expected).max()))
            largest = max(largest, float(np.abs(expected).max()))
        return worst / largest
    finally:
        for graph in sides:
            graph.close()


def worst_picture_db(avatar: Avatar, backend: str, reference: str, frames: int) -> tuple[float, str]:
    """PSNR of the worst finished frame, and what drew it."""
    scene = make_scene(avatar, None, frames)
    sides = [load_graphs([avatar.graph("frame_decoder")], name).graphs[0] for name in (backend, reference)]
    try:
        worst = 100.0
        for feed in scene.decoder:
            one, two = (picture(avatar, graph.step(graph.initial(), feed)[1], feed) for graph in sides)
            worst = min(worst, psnr_db(one, two))
        return worst, sides[0].device
    finally:
        for graph in sides:
            graph.close()


def main(
    avatar: tyro.conf.Positional[Path],
    /,
    *,
    backend: str,
    reference: str = "onnxruntime",
    precision: Precision = "fp32",
    hops: int = 3000,
    frames: int = 16,
) -> None:
    """Compares two back ends on one pack.

    Args:
        avatar: The pack.
        backend: The back end to check.
        reference: What it must equal.
        precision: What the back end computes in, which says how near it must come.
        hops: Hops over which the encoder's states run apart.
        frames: Frames to draw.
    """
    try:
        pack = open_avatar(avatar)
        apart = drift(pack, backend, reference, hops)
        decibels, device = worst_picture_db(pack, backend, reference, frames)
    except (OSError, MouthpieceError) as error:
        sys.exit(f"error: {error}")
    least = TARGET_DB.get(precision, FP32_DB)
    passes = apart <= DRIFT[precision] and decibels >= least
    console = Console(highlight=False)
    console.print(f"{device} against {reference}: {'passes' if passes else 'FAILS'}", soft_wrap=True)
    console.print(f"worst of {frames} pictures {decibels:.1f} dB (at least {least:.0f})", soft_wrap=True)
    console.print(f"contexts {apart:.1e} apart over {hops} hops (at most {DRIFT[precision]:.0e})", soft_wrap=True)
    if not passes:
        sys.exit(1)


if __name__ == "__main__":
    tyro.cli(main)
