"""A pack in another precision: graphs converted, judged against fp32, and, if wanted, written as a pack of their own.

    python -m export.convert cast.avatar                                    # what each precision costs and gains, here
    python -m export.convert cast.avatar --precision int8 -o cast_int8.avatar --speech CORPUS

A converted pack runs on every back end and can be measured like any other, lips included (python -m training.metrics).
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from engine.avatar import Avatar, open_avatar
from engine.backends import open_backend
from engine.backends.plans import Precision
from engine.errors import BackendError, MouthpieceError
from engine.layers import LayersPainter
from engine.manifest import GraphSpec, LayersPicture
from export.pack import replace_graphs
from export.precision import Half, to_half
from export.quantize import to_int8
from export.ranges import Feed, decoder_feeds, encoder_feeds, open_session, sounds

Array = NDArray[np.float32]
TARGET_DB: Mapping[Precision, float] = {"fp16": 45.0, "bf16": 36.0, "int8": 36.0}
FRAMES = 8
JUDGED = 2  # frames looked at while int8 layers are chosen
SPARE_DB = 3.0  # int8 is chosen on few frames; this much is kept in hand


@dataclass(frozen=True)
class Scene:
    """What conversions are made and judged by: inputs of the encoder and of the decoder."""

    encoder: list[Feed]
    decoder: list[Feed]
    contexts: list[Array]


@dataclass(frozen=True)
class Cost:
    """What a precision costs on a back end, against fp32 on ONNX Runtime. `mouth`: share of the mouth's movement
    that changed.
    """

    precision: str
    backend: str
    psnr_db: float
    context_db: float
    mouth: float
    milliseconds: float
    size_mb: float
    unavailable: str = ""


def make_scene(avatar: Avatar, speech: Path | None, frames: int = FRAMES, seed: int = 0) -> Scene:
    encoder, contexts = encoder_feeds(avatar, sounds(speech, 4, seed), every=29)
    return Scene(encoder, decoder_feeds(avatar, contexts, frames, seed), contexts)


def converted(avatar: Avatar, role: str, precision: Precision, speech: Path | None = None) -> bytes:
    """One graph of a pack in another precision. The encoder has no int8 form: it is fp16 there, since it hears by
    small steps.
    """
    return convert_graph(avatar, role, precision, make_scene(avatar, speech))[0]


def convert_graph(avatar: Avatar, role: str, precision: Precision, scene: Scene) -> tuple[bytes, str]:
    """-> the graph and a word on what was left in fp32."""
    data, spec = avatar.graph(role)
    model = onnx.load_model_from_string(data)
    feeds = scene.encoder if role == "audio_encoder" else scene.decoder
    if precision == "fp32":
        return data, ""
    if precision == "int8" and role == "frame_decoder":
        judge = Judge(avatar, model, scene.decoder[:JUDGED])
        made, left = to_int8(model, feeds, list(spec.state), judge, TARGET_DB["int8"] + SPARE_DB)
        if made is model:
            raise BackendError(f"{spec.file}: int8 cannot reach {TARGET_DB['int8']:.0f} dB on this pack; use fp16")
        return made.SerializeToString(deterministic=True), f"{len(left)} convolutions left in fp32"
    kind: Half = "bf16" if precision == "bf16" else "fp16"
    made = to_half(model, feeds, list(spec.state), kind)
    changed = sum(
        node.op_type in ("Conv", "Gemm", "MatMul") for node in made.graph.node if node.output[0].endswith(".half")
    )
    return made.SerializeToString(deterministic=True), f"{changed} heavy layers in {kind}"


class Judge:
    """Quality of a decoder graph: PSNR in dB of its pictures against those of the graph it was made from, worst
    frame.
    """

    def __init__(self, avatar: Avatar, model: onnx.ModelProto, feeds: Sequence[Feed]) -> None:
        self.avatar, self.feeds = avatar, feeds
        self._truth = [self._picture(found, feed) for found, feed in zip(self._run(model), feeds)]

    def __call__(self, model: onnx.ModelProto) -> float:
        return min(psnr_db(self._picture(f, feed), t) for f, feed, t in zip(self._run(model), self.feeds, self._truth))

    def _run(self, model: onnx.ModelProto) -> list[dict[str, Array]]:
        session = open_session(model.SerializeToString())
        names = [value.name for value in session.get_outputs()]
        return [dict(zip(names, session.run(None, feed), strict=True)) for feed in self.feeds]

    def _picture(self, outputs: Mapping[str, Array], feed: Feed) -> Array:
        return picture(self.avatar, outputs, feed)


def picture(avatar: Avatar, outputs: Mapping[str, Array], feed: Feed) -> Array:
    """The finished frame for a decoder's outputs, [S, S, 4] float32 0..1, premultiplied."""
    if not isinstance(avatar.manifest.picture, LayersPicture):
        return np.clip(np.asarray(outputs["picture"][0], np.float32), 0, 1)
    layers = avatar.manifest.picture
    painter = LayersPainter(_stills_of(avatar, feed), layers.face_box, layers.patches)
    return np.asarray(painter.paint(outputs) / np.float32(255), np.float32)


def _stills_of(avatar: Avatar, feed: Feed) -> NDArray[np.uint8]:
    """The stills of the person whose tensors are in the feed."""
    for name in avatar.people:
        person = avatar.person(name)
        if all(np.array_equal(feed[key], value) for key, value in person.tensors.items()):
            return person.stills
    raise ValueError("the inputs belong to nobody in this pack")


def psnr_db(one: Array, two: Array) -> float:
    """Peak signal to noise ratio of values 0..1; 100 for equal ones."""
    error = float(np.mean((one.astype(np.float64) - two) ** 2))
    return min(100.0, -10 * float(np.log10(max(error, 1e-12))))


def cost(
    avatar: Avatar, graphs: Mapping[str, bytes], precision: str, backend: str, scene: Scene, truth: Sequence[Any]
) -> Cost:
    """Runs converted graphs on a back end and compares with `truth` (see `fp32_truth`)."""
    size = sum(len(data) for data in graphs.values()) / 2**20
    specs = {role: avatar.graph(role)[1] for role in graphs}
    try:
        contexts, _ = _run_encoder(graphs["audio_encoder"], specs["audio_encoder"], backend, scene)
        outputs, times = _run_decoder(graphs["frame_decoder"], specs["frame_decoder"], backend, scene)
    except BackendError as error:
        return Cost(precision, backend, 0, 0, 0, 0, size, str(error))
    true_contexts, true_outputs = truth
    pictures = [
        psnr_db(picture(avatar, o, f), picture(avatar, t, f)) for o, t, f in zip(outputs, true_outputs, scene.decoder)
    ]
    moved = (
        np.stack([t["expression"][0] for t in true_outputs]) if "expression" in true_outputs[0] else np.zeros((2, 1))
    )
    found = np.stack([o["expression"][0] for o in outputs]) if "expression" in true_outputs[0] else moved
    mouth = float(np.sqrt(np.mean((moved - found) ** 2) / max(float(np.var(moved, axis=0).mean()), 1e-12)))
    scale = float(np.abs(true_contexts).max())
    return Cost(
        precision,
        backend,
        min(pictures),
        psnr_db(contexts / scale, true_contexts / scale),
        mouth,
        float(np.median(times)),
        size,
    )


def fp32_truth(avatar: Avatar, scene: Scene) -> tuple[Array, list[dict[str, Array]]]:
    encoder, decoder = avatar.graph("audio_encoder"), avatar.graph("frame_decoder")
    return _run_encoder(*encoder, "onnxruntime", scene)[0], _run_decoder(*decoder, "onnxruntime", scene)[0]


def _run_encoder(data: bytes, spec: GraphSpec, backend: str, scene: Scene) -> tuple[Array, float]:
    """Contexts over a second of the first scene's inputs, state handed on."""
    graph = open_backend(backend).load(data, spec)
    try:
        state, heard = graph.initial(), []
        for feed in scene.encoder:
            state, outputs = graph.step(state, {"samples": feed["samples"]})
            heard.append(outputs["context"].copy())
        return np.concatenate(heard), 0.0
    finally:
        graph.close()


def _run_decoder(
    data: bytes, spec: GraphSpec, backend: str, scene: Scene
) -> tuple[list[dict[str, Array]], list[float]]:
    graph = open_backend(backend).load(data, spec)
    try:
        outputs, times = [], []
        for feed in (scene.decoder[0], *scene.decoder):  # the first warms up
            began = time.perf_counter()
            _, found = graph.step(graph.initial(), feed)
            times.append((time.perf_counter() - began) * 1000)
            outputs.append({name: value.copy() for name, value in found.items()})
        return outputs[1:], times[1:]
    finally:
        graph.close()


def main(
    avatar: tyro.conf.Positional[Path],
    /,
    *,
    precision: tuple[Precision, ...] = ("fp16", "bf16", "int8"),
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    speech: Path | None = None,
    backends: tuple[str, ...] = ("onnxruntime", "openvino"),
) -> None:
    """Converts a pack's graphs to other precisions and shows what that costs.

    Args:
        avatar: The pack.
        precision: Which precisions.
        output: Write the pack in the one precision named.
        speech: Folder with speech, to choose scales by; without it a made-up voice serves.
        backends: Where to measure.
    """
    console = Console()
    try:
        if output is not None and len(precision) != 1:
            raise BackendError("--output writes one pack: name one --precision")
        pack = open_avatar(avatar)
        scene = make_scene(pack, speech)
        truth = fp32_truth(pack, scene)
        table = Table("precision", "back end", "picture dB", "context dB", "mouth changed", "decoder ms", "MB")
        roles = ("audio_encoder", "frame_decoder")
        for kind in dict.fromkeys(("fp32", *precision)):
            made = {role: convert_graph(pack, role, kind, scene) for role in roles}  # type: ignore[arg-type]
            for backend in backends:
                c = cost(pack, {role: data for role, (data, _) in made.items()}, kind, backend, scene, truth)
                figures = (f"{c.psnr_db:.1f}", f"{c.context_db:.1f}", f"{c.mouth:.2%}", f"{c.milliseconds:.1f}")
                table.add_row(
                    kind,
                    backend,
                    *(figures if not c.unavailable else (c.unavailable[:60], "", "", "")),
                    f"{c.size_mb:.1f}",
                )
            if kind != "fp32":
                console.print(
                    f"{kind}: {', '.join(f'{role} {note}' for role, (_, note) in made.items())}", highlight=False
                )
        console.print(table)
        if output is not None:
            replace_graphs(pack, output, {role: data for role, (data, _) in made.items()}, f"{precision[0]} graphs")
            console.print(f"wrote {output}")
    except (ValueError, OSError, MouthpieceError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    tyro.cli(main)
