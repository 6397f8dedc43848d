"""Precision lives in the graph: fp32 becomes fp16 or bf16 where that is safe, and stays fp32 where it is not.

Heavy layers with constant weights (convolution, matrix product) are taken to half precision, and with them what
stands between them, so that casts are few. In fp32 stay: everything that touches recurrent state, normalisation
(means, powers, roots), logarithms and exponentials, geometry (coordinates of GridSample reach 512 pixels, where
fp16 steps are half a pixel), each output's last step, and any layer whose values were seen to leave fp16's
comfortable range on real inputs. Inputs and outputs are fp32 in every precision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.ranges import Feed, spreads

Half = Literal["fp16", "bf16"]
HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# May follow a heavy layer in half precision: they move, select or combine values and lose nothing by it.
LIGHT = (
    "Add", "AveragePool", "Concat", "DepthToSpace", "Flatten", "Gather", "Identity", "LeakyRelu", "MaxPool", "Mul", "Neg",
    "Pad", "Relu", "Reshape", "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Transpose", "Unsqueeze",
)  # fmt: skip
# Inputs that are not values: shapes, axes, indices.
VALUE_INPUTS = {"Reshape": 1, "Slice": 1, "Split": 1, "Squeeze": 1, "Unsqueeze": 1, "Gather": 1}
LARGEST_FP16 = 65_504.0
BF16_OPSET = 22
COMFORT = 8.0  # what was seen may grow this many times before fp16 overflows
SMALLEST_NORMAL_FP16 = 6.1e-5


@dataclass(frozen=True)
class Layout:
    """A graph as a network: who makes each tensor, who reads it, which tensors are constants, and which are float32."""

    model: onnx.ModelProto
    maker: Mapping[str, int]
    readers: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, onnx.TensorProto]
    floats: frozenset[str]

    def node(self, index: int) -> onnx.NodeProto:
        node: onnx.NodeProto = self.model.graph.node[index]
        return node

    def values(self, index: int) -> list[str]:
        """The float32 inputs of a node that are values rather than shapes or axes."""
        node = self.node(index)
        count = VALUE_INPUTS.get(node.op_type, len(node.input))
        return [name for name in node.input[:count] if name in self.floats]

    def flowing(self, index: int) -> list[str]:
        """Those of `values` that are no constants."""
        return [name for name in self.values(index) if name not in self.constants]

    def weight(self, index: int) -> onnx.TensorProto | None:
        """The constant weight of a heavy layer, or None if the node is no such layer."""
        node = self.node(index)
        if node.op_type not in HEAVY or len(node.input) < 2:
            return None
        return self.constants.get(node.input[1])


def lay_out(model: onnx.ModelProto) -> Layout:
    typed = onnx.shape_inference.infer_shapes(model).graph
    constants = {weight.name: weight for weight in model.graph.initializer}
    floats = {name for name, weight in constants.items() if weight.data_type == TensorProto.FLOAT}
    for value in (*typed.input, *typed.value_info, *typed.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            floats.add(value.name)
    maker: dict[str, int] = {}
    readers: dict[str, tuple[int, ...]] = {}
    for index, node in enumerate(model.graph.node):
        maker.update(dict.fromkeys(node.output, index))
        for name in node.input:
            readers[name] = (*readers.get(name, ()), index)
    return Layout(model, maker, readers, constants, frozenset(floats))


def safe_in_half(layout: Layout, feeds: Sequence[Feed], state: Sequence[str], kind: Half) -> set[int]:
    """Nodes that may run in half precision; `state` names the recurrent inputs. `feeds` show how large values get."""
    chosen: set[int] = set()
    heavy = [index for index in range(len(layout.model.graph.node)) if layout.weight(index) is not None]
    touched = {index for name in state for index in layout.readers.get(name, ())}
    heavy = [index for index in heavy if index not in touched]
    watched = {name for index in heavy for name in (*layout.flowing(index), *layout.node(index).output)}
    seen = spreads(layout.model, feeds, sorted(watched))
    for index in heavy:
        sizes = [seen[name].largest for name in (*layout.flowing(index), *layout.node(index).output)]
        if kind == "bf16" or (max(sizes) * COMFORT < LARGEST_FP16 and _fits(layout, index)):
            chosen.add(index)
    outputs = {value.name for value in layout.model.graph.output}
    for index, node in enumerate(layout.model.graph.node):
        flows = layout.flowing(index)
        follows = node.op_type in LIGHT and flows and all(layout.maker.get(name, -1) in chosen for name in flows)
        if follows and index not in touched and not outputs.intersection(node.output):
            chosen.add(index)
    return chosen - {index for index in chosen if outputs.intersection(layout.node(index).output)}


def _fits(layout: Layout, index: int) -> bool:
    """Whether a layer's weights survive fp16: none overflows, and what falls below its normal range is nothing next to the rest."""
    weight = layout.weight(index)
    sizes = np.abs(numpy_helper.to_array(weight)) if weight is not None else np.zeros(1)
    largest = float(sizes.max(initial=0))
    return largest < LARGEST_FP16 / COMFORT and (largest == 0 or largest > 256 * SMALLEST_NORMAL_FP16)


def to_half(
    model: onnx.ModelProto, feeds: Sequence[Feed], state: Sequence[str] = (), kind: Half = "fp16"
) -> onnx.ModelProto:
    """The same graph with its heavy layers in fp16 or bf16. Names, shapes and float32 inputs and outputs stay as they are."""
    layout = lay_out(model)
    return _Rewriter(layout, safe_in_half(layout, feeds, state, kind), kind).model()


def _raise_opset(model: onnx.ModelProto) -> None:
    """Convolutions know bf16 since opset 22; of the operators used here only GridSample was respelt on the way."""
    model.opset_import[0].version = BF16_OPSET
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "GridSample" and attribute.name == "mode" and attribute.s == b"bilinear":
                attribute.s = b"linear"


class _Rewriter:
    """Writes the graph anew: half-precision twins `x.half` of the tensors that chosen nodes read and make, casts at the borders."""

    def __init__(self, layout: Layout, chosen: set[int], kind: Half) -> None:
        self.layout, self.chosen = layout, chosen
        self.type = TensorProto.FLOAT16 if kind == "fp16" else TensorProto.BFLOAT16
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        self.twins: set[str] = set()

    def model(self) -> onnx.ModelProto:
        for index, node in enumerate(self.layout.model.graph.node):
            if index in self.chosen:
                self._in_half(index)
            else:
                self.nodes.append(node)
        made = onnx.ModelProto()
        made.CopyFrom(self.layout.model)
        del made.graph.node[:], made.graph.initializer[:], made.graph.value_info[:]
        made.graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input}
        kept = [weight for name, weight in self.layout.constants.items() if name in read]
        made.graph.initializer.extend([*kept, *self.weights.values()])
        if self.type == TensorProto.BFLOAT16:
            _raise_opset(made)
        onnx.checker.check_model(made, full_check=True)
        return made

    def _in_half(self, index: int) -> None:
        node = onnx.NodeProto()
        node.CopyFrom(self.layout.node(index))
        values = set(self.layout.values(index))
        node.input[:] = [self._twin(name) if name in values else name for name in node.input]
        names = list(node.output)
        node.output[:] = [f"{name}.half" for name in names]
        self.twins.update(names)
        self.nodes.append(node)
        for name in names:  # those who stay in fp32 read the original name
            if any(reader not in self.chosen for reader in self.layout.readers.get(name, ())):
                self.nodes.append(
                    helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.cast", to=TensorProto.FLOAT)
                )

    def _twin(self, name: str) -> str:
        twin = f"{name}.half"
        if name in self.layout.constants:
            if twin not in self.weights:
                self.weights[twin] = self._constant(name, twin)
        elif name not in self.twins:
            self.twins.add(name)
            self.nodes.append(helper.make_node("Cast", [name], [twin], name=f"{twin}.cast", to=self.type))
        return twin

    def _constant(self, name: str, twin: str) -> onnx.TensorProto:
        value = numpy_helper.to_array(self.layout.constants[name])
        if self.type == TensorProto.FLOAT16:
            return numpy_helper.from_array(value.astype(np.float16), twin)
        bits = value.astype(np.float32).view(np.uint32)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # to nearest, ties to even
        return helper.make_tensor(twin, TensorProto.BFLOAT16, value.shape, rounded.tobytes(), raw=True)
