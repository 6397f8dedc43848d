"""Torch modules become ONNX graphs: named inputs and outputs, state as named leaves, static shapes, weights inside.

A `Role` says what each tensor is to the engine; the same list becomes the pack's declaration, so graph and manifest
cannot differ.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn

OPSET = 18  # the oldest with everything used here, so that TensorRT 10 and every ONNX Runtime since 1.14 read it
IR_VERSION = 10


@dataclass(frozen=True)
class Port:
    """A graph's tensor: its name, role (docs/formats.md) and shape; always float32."""

    name: str
    role: str
    shape: tuple[int, ...]

    def declared(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return {"name": self.name, "shape": list(self.shape), "dtype": "float32", "role": self.role}


@dataclass(frozen=True)
class ExportedGraph:
    """An ONNX model and the declaration that the manifest makes of it; `state` maps input leaf to output leaf."""

    file: str
    model: onnx.ModelProto
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    state: Mapping[str, str]

    def serialized(self) -> bytes:
        return bytes(self.model.SerializeToString(deterministic=True))

    def declared(self) -> dict[str, Any]:
        """The graph's entry under `graphs` in the manifest."""
        return {
            "file": self.file,
            "inputs": [port.declared() for port in self.inputs],
            "outputs": [port.declared() for port in self.outputs],
            "state": dict(self.state),
        }


class NamedOutputs(nn.Module):
    """A module called with named tensors and answering a mapping, seen as `(*inputs) -> tuple of outputs` in a fixed
    order.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.module, self.inputs, self.outputs = module, tuple(inputs), tuple(outputs)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        answer = self.module(**dict(zip(self.inputs, values, strict=True)))
        return tuple(answer[name] for name in self.outputs)


def trace(
    module: nn.Module, example: Sequence[Tensor], inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """Exports `module(*example) -> tuple` with the given names. The model holds no paths of this machine and is
    checked.

    Raises `ValueError` if an input was optimised away, which would leave the pack with a control that does nothing.
    """
    with _quiet(), torch.no_grad():
        exported = torch.export.export(module.eval(), tuple(example), strict=False)
        _settle_bounds(exported.graph)
        program = torch.onnx.export(
            exported,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    model = without_idle_nodes(without_traces(program.model_proto))
    found = [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    if found != (list(inputs), list(outputs)):
        raise ValueError(f"the exporter changed the graph's tensors: expected {inputs} -> {outputs}, found {found}")
    used = {name for node in model.graph.node for name in node.input}
    if idle := [name for name in inputs if name not in used]:
        raise ValueError(f"the graph does not use its input {', '.join(idle)}; the model ignores it")
    onnx.checker.check_model(model, full_check=True)
    return model


def _settle_bounds(graph: torch.fx.Graph) -> None:
    """Makes the bounds of a clamp of one type: torch 2.13's decomposition fails on `clamp(-2, 1.5)`."""
    for node in graph.nodes:
        if node.target is torch.ops.aten.clamp.default:
            node.args = (node.args[0], *(float(bound) if isinstance(bound, int) else bound for bound in node.args[1:]))


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drops what exporters leave behind about the machine and source lines: stack traces, scopes, documentation, inner
    shapes.
    """
    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    clean.producer_name, clean.producer_version = "mouthpiece", ""
    clean.ir_version = IR_VERSION
    clean.doc_string = ""
    graph = clean.graph
    graph.name, graph.doc_string = "main", ""
    del clean.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    return clean


def without_idle_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drops nodes that change nothing: an Expand, Reshape or Identity to the shape that was there. They cost a copy in
    some runtimes.
    """
    known = _all_shapes(model)
    outputs = {value.name for value in model.graph.output}
    renamed: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        idle = node.op_type in ("Expand", "Reshape", "Identity") and known.get(node.input[0], ()) == known.get(
            node.output[0], None
        )
        if idle and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    del clean.graph.node[:]
    clean.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    weights = [weight for weight in clean.graph.initializer if weight.name in used]
    del clean.graph.initializer[:]
    clean.graph.initializer.extend(weights)
    return clean


def _all_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found = {weight.name: tuple(weight.dims) for weight in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        sides = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(side.HasField("dim_value") for side in sides):
            found[value.name] = tuple(side.dim_value for side in sides)
    return found


def shapes(values: Sequence[onnx.ValueInfoProto]) -> dict[str, tuple[int, ...]]:
    """Static shapes of a graph's inputs or outputs, by name. Raises `ValueError` for a dynamic one."""
    found: dict[str, tuple[int, ...]] = {}
    for value in values:
        sides = value.type.tensor_type.shape.dim
        if any(not side.HasField("dim_value") for side in sides):
            raise ValueError(f"{value.name} has a dynamic shape; export with fixed shapes")
        found[value.name] = tuple(side.dim_value for side in sides)
    return found


@contextmanager
def _quiet() -> Any:
    """The exporter talks about packages it did not find and about its own deprecations; none of it concerns the
    user.
    """
    loggers = [
        logging.getLogger(name)
        for name in ("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript", "onnx_ir")
    ]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
