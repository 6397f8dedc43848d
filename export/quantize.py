"""int8 by explicit quantisation: Q and DQ nodes in front of convolutions, scales from real inputs.

Every runtime that knows Q/DQ runs such a layer on its int8 units, and TensorRT accepts nothing else. Values are
symmetric (zero stays zero), a scale for each tensor that flows and one for each output channel of weights. The
first and last convolutions of a path, small ones, and those that cost most quality stay as they were; which these
are is measured on the graph itself. Source: Jacob et al. 2018 (arXiv 1712.05877); TensorRT developer guide,
"Working with quantized types".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.precision import Layout, lay_out
from export.ranges import Feed, Spread, spreads

Array = NDArray[np.float32]
STEPS = 127
FEWEST_WEIGHTS = 512  # below this an int8 layer saves nothing


def candidates(layout: Layout, state: Sequence[str]) -> list[int]:
    """Convolutions worth quantising: with constant weights of some size, away from state, from the graph's own outputs,
    and from inputs that are put together from several tensors. Those differ in range and would share one scale, and
    OpenVINO 2026 quantises them before they are put together, for all their readers: 27 dB instead of 49.
    """
    touched = {index for name in state for index in layout.readers.get(name, ())}
    outputs = {value.name for value in layout.model.graph.output}
    chosen = []
    for index, node in enumerate(layout.model.graph.node):
        weight = layout.weight(index)
        if node.op_type != "Conv" or weight is None or index in touched or outputs.intersection(node.output):
            continue
        mixed = layout.node(layout.maker.get(node.input[0], index)).op_type == "Concat"
        if not mixed and int(np.prod(weight.dims)) >= FEWEST_WEIGHTS and int(weight.dims[0]) > 4:
            chosen.append(index)
    return chosen


def quantize(layout: Layout, chosen: Iterable[int], seen: Mapping[str, Spread]) -> onnx.ModelProto:
    """The graph with Q/DQ pairs on the input and the weights of the chosen convolutions."""
    chosen = set(chosen)
    made = onnx.ModelProto()
    made.CopyFrom(layout.model)
    del made.graph.node[:], made.graph.value_info[:]
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, onnx.TensorProto] = {}
    done: set[str] = set()
    for index, original in enumerate(layout.model.graph.node):
        node = onnx.NodeProto()
        node.CopyFrom(original)
        if index in chosen:
            flowing, weight = node.input[0], node.input[1]
            if flowing not in done:
                scale = np.array(max(seen[flowing].clip_for_int8(), 1e-6) / STEPS, np.float32)
                nodes += _pair(flowing, scale, None, constants)
                done.add(flowing)
            if weight not in done:
                value = numpy_helper.to_array(layout.constants[weight])
                sizes = np.abs(value).reshape(len(value), -1).max(axis=1)
                nodes += _pair(weight, np.maximum(sizes, 1e-8).astype(np.float32) / STEPS, 0, constants)
                done.add(weight)
            node.input[0], node.input[1] = f"{flowing}.dq", f"{weight}.dq"
        nodes.append(node)
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(constants.values())
    onnx.checker.check_model(made, full_check=True)
    return made


def _pair(
    name: str, scale: NDArray[np.float32], axis: int | None, constants: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    names = [f"{name}.scale", f"{name}.zero"]
    for key, value in zip(names, (scale, np.zeros(scale.shape, np.int8))):
        constants[key] = numpy_helper.from_array(np.asarray(value), key)
    more: dict[str, Any] = {} if axis is None else {"axis": axis}
    return [
        helper.make_node("QuantizeLinear", [name, *names], [f"{name}.q"], name=f"{name}.quantize", **more),
        helper.make_node("DequantizeLinear", [f"{name}.q", *names], [f"{name}.dq"], name=f"{name}.dequantize", **more),
    ]


def to_int8(
    model: onnx.ModelProto,
    feeds: Sequence[Feed],
    state: Sequence[str],
    quality_db: Callable[[onnx.ModelProto], float],
    target_db: float,
) -> tuple[onnx.ModelProto, list[str]]:
    """Quantises as much as quality allows -> the graph and the names of the layers left as they were.

    `quality_db` judges a graph. Layers are tried alone first; then the worst are given up, a few at a time, until
    the whole reaches `target_db`. A graph that cannot reach it comes back without any int8.
    """
    layout = lay_out(model)
    chosen = candidates(layout, state)
    seen = spreads(model, feeds, sorted({layout.node(index).input[0] for index in chosen}))
    harm = {index: quality_db(quantize(layout, [index], seen)) for index in chosen}
    keep = sorted(chosen, key=lambda index: -harm[index])  # least harmful first
    while keep:
        made = quantize(layout, keep, seen)
        if quality_db(made) >= target_db:
            break
        keep = keep[: -max(1, len(keep) // 10)]
    left = [layout.node(index).name for index in chosen if index not in keep]
    return (quantize(layout, keep, seen) if keep else model), left
