"""Does the pack compute what the checkpoint computes? torch against every back end at hand, from one identical state.

    python -m export.parity cast.avatar runs/face runs/audio

Encoder: step 1 from one random state, so that state itself is compared, then `--steps` hops of sound, each back end
with its own state, which shows drift. Decoder: frames with conditions all over their ranges, layer by layer, and the
picture.

The limit is 1e-4, or twice what float32 costs torch itself (against the same checkpoint in float64), where that is more:
no float32 program can be held to less. It is more for `weight` alone, the shares of the stills: they follow from where a
search over the head's surface ended, read at silhouettes where the surface falls off by centimetres from cell to cell.
"""

import copy
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from engine.avatar import Avatar, open_avatar
from engine.backends import open_backend
from engine.errors import MouthpieceError
from engine.layers import LayersPainter
from engine.manifest import GraphSpec, LayersPicture
from export.onnx import Models, OneFrame, load_models
from export.signals import random_inputs, speech_like

Array = NDArray[np.float32]
TOLERANCE = 1e-4
# Layers that count in pixels of a 512-pixel still are compared in units of the still: 1e-4 of it is a twentieth of a
# pixel.
PIXEL_LAYERS = ("grid", "paint_flow")


@dataclass(frozen=True)
class Difference:
    """The largest difference of one tensor between torch and a back end, in the tensor's unit (pixels: shares of the
    still). `float32_itself`: that between torch in float32 and in float64.
    """

    backend: str
    what: str
    largest: float
    float32_itself: float = 0.0

    @property
    def limit(self) -> float:
        return max(TOLERANCE, 2 * self.float32_itself)

    @property
    def passes(self) -> bool:
        return self.largest <= self.limit


def with_open_state(model: bytes, spec: GraphSpec) -> GraphSpec:
    """The encoder's declaration with its state as plain inputs and outputs, so that any state can be put in and read
    back.
    """
    inputs = [t.model_copy(update={"role": "condition"}) if t.role == "state" else t for t in spec.inputs]
    outputs = [t.model_copy(update={"role": "aux"}) if t.role == "state" else t for t in spec.outputs]
    return spec.model_copy(update={"inputs": inputs, "outputs": outputs, "state": {}})


def compare_encoder_step(avatar: Avatar, models: Models, backend: str, seed: int = 0) -> list[Difference]:
    """One hop from one identical, random state: the context and every leaf after it."""
    model, spec = avatar.graph("audio_encoder")
    rng = np.random.default_rng(seed)
    leaves = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in spec.inputs_of("state").items()}
    inputs = {"samples": speech_like(1, seed), **leaves}
    graph = open_backend(backend).load(model, with_open_state(model, spec))
    try:
        _, found = graph.step(graph.initial(), inputs)
        with torch.no_grad():
            answers = models.encoder(*(torch.from_numpy(inputs[t.name]) for t in spec.inputs))
        return [
            _difference(backend, t.name, found[t.name], value.numpy())
            for t, value in zip(spec.outputs, answers, strict=True)
        ]
    finally:
        graph.close()


def compare_encoder_run(avatar: Avatar, models: Models, backend: str, hops: int, seed: int = 0) -> Difference:
    """The last context after `hops` hops, each side with its own state from zeros."""
    samples = speech_like(hops, seed)
    model, spec = avatar.graph("audio_encoder")
    graph = open_backend(backend).load(model, spec)
    try:
        state = graph.initial()
        leaves = models.encoder.example()[1:]
        worst = 0.0
        with torch.no_grad():
            for hop in samples:
                state, found = graph.step(state, {"samples": hop[None]})
                context, *leaves = models.encoder(torch.from_numpy(hop[None]), *leaves)
                worst = max(worst, float(np.abs(found["context"] - context.numpy()).max()))
        return Difference(backend, f"context over {hops} hops", worst)
    finally:
        graph.close()


def compare_decoder(avatar: Avatar, models: Models, backend: str, frames: int) -> list[Difference]:
    """Largest differences of each output over some frames, and of the finished 8-bit picture where the pack has
    layers.
    """
    model, spec = avatar.graph("frame_decoder")
    graph = open_backend(backend).load(model, spec)
    module = OneFrame(models.composer).eval()
    exact = copy.deepcopy(module).double()
    worst = {t.name: 0.0 for t in spec.outputs}
    itself, picture = dict(worst), 0.0
    try:
        for seed in range(frames):
            person = avatar.people[seed % len(avatar.people)]
            inputs = random_inputs(avatar, person, seed)
            _, found = graph.step(graph.initial(), inputs)
            given = [torch.from_numpy(inputs[t.name]) for t in spec.inputs]
            with torch.no_grad():
                truth, fine = (
                    {t.name: value.numpy() for t, value in zip(spec.outputs, answers, strict=True)}
                    for answers in (module(*given), exact(*(value.double() for value in given)))
                )
            for name, value in truth.items():
                unit = avatar.size if name in PIXEL_LAYERS else 1
                worst[name] = max(worst[name], _difference(backend, name, found[name], value).largest / unit)
                itself[name] = max(itself[name], _difference(backend, name, value, fine[name]).largest / unit)
            picture = max(picture, picture_difference(avatar, person, found, truth))
    finally:
        graph.close()
    return [Difference(backend, name, value, itself[name]) for name, value in worst.items()] + [
        Difference(backend, "mean of the picture", picture)
    ]


def picture_difference(avatar: Avatar, person: str, found: Mapping[str, Array], truth: Mapping[str, Array]) -> float:
    """Mean absolute difference of the finished pictures, 0..1; 8-bit rounding makes single pixels differ by a level."""
    if not isinstance(avatar.manifest.picture, LayersPicture):
        return 0.0
    picture = avatar.manifest.picture
    painter = LayersPainter(avatar.person(person).stills, picture.face_box, picture.patches)
    one, two = (painter.paint(layers).astype(np.float32) for layers in (found, truth))
    return float(np.abs(one - two).mean() / 255)


def _difference(backend: str, what: str, found: NDArray[Any], truth: NDArray[Any]) -> Difference:
    if found.shape != truth.shape or not np.isfinite(found).all():
        return Difference(backend, what, math.inf)
    return Difference(backend, what, float(np.abs(found - truth).max()))


def compare(avatar: Avatar, models: Models, backends: Sequence[str], steps: int, frames: int) -> list[Difference]:
    """All comparisons on all back ends."""
    found: list[Difference] = []
    for backend in backends:
        found += compare_encoder_step(avatar, models, backend)
        found.append(compare_encoder_run(avatar, models, backend, steps))
        found += compare_decoder(avatar, models, backend, frames)
    return found


def main(
    avatar: tyro.conf.Positional[Path],
    face: tyro.conf.Positional[Path],
    audio: tyro.conf.Positional[Path | None] = None,
    /,
    *,
    backends: tuple[str, ...] = ("onnxruntime", "openvino"),
    steps: int = 3000,
    frames: int = 6,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Compares a pack with the checkpoints it was made from; exits with 1 if a difference is over its limit, 1e-4.

    Args:
        avatar: The pack.
        face: Folder of the face checkpoint, or of both (`face/` and `audio/` inside).
        audio: Folder of the audio checkpoint.
        backends: Back ends to compare with torch.
        steps: Hops over which the encoder's states run apart.
        frames: Frames of the decoder to compare.
        json_: Print the figures as JSON instead of a table.
    """
    if audio is None:
        face, audio = face / "face", face / "audio"
    try:
        found = compare(open_avatar(avatar), load_models(face, audio), backends, steps, frames)
    except (ValueError, OSError, MouthpieceError) as error:
        sys.exit(f"error: {error}")
    if json_:
        print(json.dumps([asdict(d) | {"limit": d.limit, "passes": d.passes} for d in found], indent=1))
    else:
        table = Table("back end", "tensor", "largest difference", "float32 itself", "")
        for d in found:
            limit = "1e-4" if d.limit == TOLERANCE else f"{d.limit:.1e}"
            verdict = (
                "ok" if d.largest <= TOLERANCE else f"ok, limit {limit}" if d.passes else f"[red]over {limit}[/red]"
            )
            own = f"{d.float32_itself:.2e}" if d.float32_itself else ""
            table.add_row(d.backend, d.what, f"{d.largest:.2e}", own, verdict)
        Console().print(table)
    if not all(d.passes for d in found):
        sys.exit(1)


if __name__ == "__main__":
    tyro.cli(main)
