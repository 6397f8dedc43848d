"""Is the face on one back end the face on another? Both run the same pack; no checkpoint and no torch is needed.

    python -m export.compare cast.avatar --backend tensorrt --precision fp16
    python -m export.compare cast.avatar --backend tensorrt --precision fp16 --batch 8    # one call for eight avatars

The encoder hears `--hops` hops, each side with its own state, so that drift shows; then frames are drawn from real
contexts with conditions all over their ranges. The reference always runs one avatar a call. Exits with 1 if a picture
falls below what the precision allows.
"""

import sys
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from engine.avatar import Avatar, open_avatar
from engine.backends import load_graphs
from engine.backends.batched import batched_spec
from engine.backends.plans import Precision
from engine.errors import MouthpieceError
from export.batch import batched
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


def drift_together(avatar: Avatar, backend: str, reference: str, hops: int, batch: int) -> float:
    """As `drift`, for `batch` avatars a call who hear different sound, against each of them alone."""
    model, spec = avatar.graph("audio_encoder")
    (whole,) = load_graphs([(batched(model, batch), batched_spec(spec, batch))], backend).graphs
    (single,) = load_graphs([(model, batched_spec(spec, 1))], reference).graphs
    try:
        sounds = np.stack([speech_like(hops, seed) for seed in range(batch)], axis=1)
        zeros = {name: np.zeros(shape, np.float32) for name, shape in spec.inputs_of("state").items()}
        leaves = {name: np.concatenate([value] * batch) for name, value in zeros.items()}
        each, worst, largest = [zeros] * batch, 0.0, 1e-9
        for hop in sounds:
            _, found = whole.step(whole.initial(), {"samples": hop, **leaves})
            leaves = {name: found[following].copy() for name, following in spec.state.items()}
            for k in range(batch):
                _, alone = single.step(single.initial(), {"samples": hop[k : k + 1], **each[k]})
                each[k] = {name: alone[following].copy() for name, following in spec.state.items()}
                worst = max(worst, float(np.abs(found["context"][k] - alone["context"][0]).max()))
                largest = max(largest, float(np.abs(alone["context"]).max()))
        return worst / largest
    finally:
        whole.close()
        single.close()


def worst_picture_db(avatar: Avatar, backend: str, reference: str, frames: int, batch: int = 1) -> tuple[float, str]:
    """PSNR of the worst finished frame, and what drew it, `batch` frames a call."""
    scene = make_scene(avatar, None, -(-frames // batch) * batch)
    model, spec = avatar.graph("frame_decoder")
    models = ((batched(model, batch), batched_spec(spec, batch)), (model, spec))
    whole, single = (load_graphs([m], name).graphs[0] for m, name in zip(models, (backend, reference)))
    try:
        worst = 100.0
        for start in range(0, len(scene.decoder), batch):
            feeds = scene.decoder[start : start + batch]
            together = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
            _, found = whole.step(whole.initial(), together)
            for k, feed in enumerate(feeds):
                own = {name: np.split(value, batch)[k] for name, value in found.items()}
                _, expected = single.step(single.initial(), feed)
                worst = min(worst, psnr_db(picture(avatar, own, feed), picture(avatar, expected, feed)))
        return worst, whole.device
    finally:
        whole.close()
        single.close()


def main(
    avatar: tyro.conf.Positional[Path],
    /,
    *,
    backend: str,
    reference: str = "onnxruntime",
    precision: Precision = "fp32",
    hops: int = 3000,
    frames: int = 16,
    batch: int = 1,
) -> None:
    """Compares two back ends on one pack.

    Args:
        avatar: The pack.
        backend: The back end to check.
        reference: What it must equal.
        precision: What the back end computes in, which says how near it must come.
        hops: Hops over which the encoder's states run apart.
        frames: Frames to draw.
        batch: Avatars a call on the back end that is checked; they share the hops.
    """
    try:
        pack = open_avatar(avatar)
        if batch == 1:
            apart = drift(pack, backend, reference, hops)
        else:
            hops = -(-hops // max(1, batch))
            apart = drift_together(pack, backend, reference, hops, batch)
        decibels, device = worst_picture_db(pack, backend, reference, frames, batch)
    except (OSError, MouthpieceError) as error:
        sys.exit(f"error: {error}")
    least = TARGET_DB.get(precision, FP32_DB)
    passes = apart <= DRIFT[precision] and decibels >= least
    console = Console(highlight=False)
    device += f", {batch} avatars a call" if batch > 1 else ""
    console.print(f"{device} against {reference}: {'passes' if passes else 'FAILS'}", soft_wrap=True)
    console.print(f"worst of {frames} pictures {decibels:.1f} dB (at least {least:.0f})", soft_wrap=True)
    console.print(f"contexts {apart:.1e} apart over {hops} hops (at most {DRIFT[precision]:.0e})", soft_wrap=True)
    if not passes:
        sys.exit(1)


if __name__ == "__main__":
    tyro.cli(main)
