"""What each ONNX operator becomes when its graph computes N calls at once (export/batch_layout.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from export.batch_layout import Batching, Rule

# Answers of these have the sides of the widest input; they look at one value of each at a time.
ELEMENTWISE = frozenset((
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater",
    "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod",
    "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear", "DequantizeLinear", "Reciprocal", "Relu", "Round",
    "Sigmoid", "Sign", "Sin", "Softplus", "Sqrt", "Sub", "Tan", "Tanh", "Where",
))  # fmt: skip
# The first side is a batch to these already; which of their inputs have it.
BATCH_FIRST: Mapping[str, tuple[int, ...]] = {
    "Conv": (0,), "ConvTranspose": (0,), "GridSample": (0, 1), "Resize": (0,), "MaxPool": (0,), "AveragePool": (0,),
    "GlobalAveragePool": (0,), "DepthToSpace": (0,), "SpaceToDepth": (0,), "InstanceNormalization": (0,),
    "GroupNormalization": (0,), "BatchNormalization": (0,),
}  # fmt: skip
RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare")


def _attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _elementwise(b: Batching, node: onnx.NodeProto) -> bool:
    out = b.shapes[node.output[0]]
    rank = len(out)
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and b.shapes[node.input[1]] not in ((), (1,)):
        return False
    direct = rank > 0

    def stays(name: str) -> bool:
        shape = b.shapes[name]
        if b.varies(name):
            return len(shape) == rank and shape[0] == out[0]
        return len(shape) < rank or shape[0] == 1

    direct = direct and all(stays(name) for name in node.input if name)
    if direct:
        b.keep(node, [b.form(name, b.long(name)) if b.varies(name) else name for name in node.input])
    else:
        b.apart(node, [b.form(name, b.split(name, rank)) if b.varies(name) else name for name in node.input])
    return True


def _reshape(b: Batching, node: onnx.NodeProto) -> bool:
    """Row-major order is kept, so every reshape is one from long to long, whatever it does to the first side."""
    if not b.varies(node.input[0]):
        return False
    b.same(node.output[0], node.input[0])
    return True


def _batch_first(b: Batching, node: onnx.NodeProto) -> bool:
    data = BATCH_FIRST[node.op_type]
    if any(b.varies(name) for k, name in enumerate(node.input) if k not in data and name):
        return False
    inputs = [b.repeated(name) if k in data else name for k, name in enumerate(node.input)]
    if node.op_type == "Resize" and len(inputs) > 3 and inputs[3]:
        sizes = b.value(node.input[3])
        if sizes is None or _attribute(node, "axes") is not None:
            return False
        inputs[3] = b.constant(np.concatenate([sizes[:1] * b.n, sizes[1:]]))
    b.keep(node, inputs)
    return True


def _axis(b: Batching, node: onnx.NodeProto, default: int) -> int:
    axis = int(_attribute(node, "axis", default))
    return axis + len(b.shapes[node.input[0]]) if axis < 0 else axis


def _along(default: int) -> Rule:
    """Operators with one axis as an attribute; further inputs are constants."""

    def rule(b: Batching, node: onnx.NodeProto) -> bool:
        source, axis = node.input[0], _axis(b, node, default)
        if any(b.varies(name) for name in node.input[1:]) or not b.varies(source):
            return False
        if axis == 0:
            b.apart(node, [b.form(source, b.split(source, len(b.shapes[source]))), *node.input[1:]], axis=1)
        else:
            b.keep(node, [b.form(source, b.long(source)), *node.input[1:]], axis=axis)
        return True

    return rule


def _concat(b: Batching, node: onnx.NodeProto) -> bool:
    axis, rank = _axis(b, node, 0), len(b.shapes[node.output[0]])
    if axis:
        b.keep(node, [b.repeated(name) for name in node.input], axis=axis)
        return True
    parts = []
    for name in node.input:
        if b.varies(name):
            parts.append(b.form(name, b.split(name, rank)))
        elif (value := b.value(name)) is not None:
            parts.append(b.constant(np.broadcast_to(value, (b.n, *value.shape))))
        else:
            return False
    b.apart(node, parts, axis=1)
    return True


def _transpose(b: Batching, node: onnx.NodeProto) -> bool:
    source, rank = node.input[0], len(b.shapes[node.input[0]])
    order = [int(axis) for axis in _attribute(node, "perm", list(range(rank))[::-1])]
    if order[0] == 0:
        b.keep(node, [b.form(source, b.long(source))], perm=order)
    else:
        b.apart(node, [b.form(source, b.split(source, rank))], perm=[0, *(axis + 1 for axis in order)])
    return True


def _axes_input(position: int) -> Rule:
    """Operators whose axes are a constant input: Slice and the reductions."""

    def rule(b: Batching, node: onnx.NodeProto) -> bool:
        source, rank = node.input[0], len(b.shapes[node.input[0]])
        found = b.value(node.input[position]) if len(node.input) > position and node.input[position] else None
        if found is None or any(b.varies(name) for name in node.input[1:]) or _attribute(node, "keepdims", 1) == 0:
            return False
        axes = [int(axis) + rank * (axis < 0) for axis in np.atleast_1d(found)]
        split = 0 in axes
        made = b.constant(np.array([axis + split for axis in axes], np.int64))
        rest = [made if k == position else name for k, name in enumerate(node.input)][1:]
        if split:
            b.apart(node, [b.form(source, b.split(source, rank)), *rest])
        else:
            b.keep(node, [b.form(source, b.long(source)), *rest])
        return True

    return rule


def _reduce(b: Batching, node: onnx.NodeProto) -> bool:
    """Reductions that drop their sides answer what those that keep them do, in another shape."""
    if _attribute(node, "keepdims", 1):
        return _axes_input(1)(b, node)
    out, whole = node.output[0], f"{node.output[0]}@kept"
    axes = b.value(node.input[1]) if len(node.input) > 1 else None
    if axes is None:
        return False
    source = b.shapes[node.input[0]]
    gone = {int(axis) % len(source) for axis in np.atleast_1d(axes)}
    b.shapes[whole] = tuple(1 if axis in gone else side for axis, side in enumerate(source))
    kept = helper.make_node(node.op_type, list(node.input), [whole], keepdims=1)
    return _axes_input(1)(b, kept) and _reshape(b, helper.make_node("Reshape", [whole, ""], [out]))


def _pad(b: Batching, node: onnx.NodeProto) -> bool:
    rank, pads = len(b.shapes[node.input[0]]), b.value(node.input[1])
    if pads is None or len(pads) != 2 * rank or pads[0] or pads[rank]:
        return False
    b.keep(node, [b.form(node.input[0], b.long(node.input[0])), *node.input[1:]])
    return True


def _expand(b: Batching, node: onnx.NodeProto) -> bool:
    """Expand and Tile: to the shape that comes out, each avatar for itself."""
    source, out = node.input[0], node.output[0]
    rank = len(b.shapes[out])
    if not b.varies(source):
        return False
    if node.op_type == "Expand":
        goal: Sequence[int] = (b.n, *b.shapes[out])
    else:
        counts = b.value(node.input[1])
        if counts is None:
            return False
        goal = (1, *(int(count) for count in counts))
    b.apart(node, [b.form(source, b.split(source, rank)), b.constant(np.array(goal, np.int64))])
    return True


def _matmul(b: Batching, node: onnx.NodeProto) -> bool:
    left, right = node.input
    shapes = [b.shapes[name] for name in (left, right)]
    rank = max(map(len, shapes))
    vary = [b.varies(name) for name in (left, right)]
    if any(len(shape) < 2 and varies for shape, varies in zip(shapes, vary)):
        return False
    if vary == [True, False] and (len(shapes[1]) < 3 or (len(shapes[0]) == len(shapes[1]) and shapes[1][0] == 1)):
        b.keep(node, [b.form(left, b.long(left)), right])
    elif rank > 2 and all(vary) and len(shapes[0]) == len(shapes[1]) and shapes[0][0] == shapes[1][0]:
        b.keep(node, [b.form(name, b.long(name)) for name in (left, right)])
    elif (
        vary == [False, True]
        and len(shapes[1]) > 2
        and (len(shapes[0]) == 2 or (len(shapes[0]) == rank and shapes[0][0] == 1))
    ):
        b.keep(node, [left, b.form(right, b.long(right))])
    else:
        b.apart(node, [b.form(name, b.split(name, rank)) if b.varies(name) else name for name in (left, right)])
    return True


def _gemm(b: Batching, node: onnx.NodeProto) -> bool:
    bias = node.input[2] if len(node.input) > 2 else ""
    if b.varies(node.input[1]) or _attribute(node, "transA", 0) or (bias and b.varies(bias)):
        return False
    if bias and len(b.shapes[bias]) == 2 and b.shapes[bias][0] != 1:
        return False
    b.keep(node, [b.form(node.input[0], b.long(node.input[0])), *node.input[1:]])
    return True


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(RESHAPES, _reshape),
    **dict.fromkeys(BATCH_FIRST, _batch_first),
    **dict.fromkeys(REDUCTIONS, _reduce),
    "Concat": _concat, "Expand": _expand, "Gather": _along(0), "Gemm": _gemm, "LayerNormalization": _along(-1),
    "LogSoftmax": _along(-1), "MatMul": _matmul, "Pad": _pad, "Slice": _axes_input(3), "Softmax": _along(-1),
    "Split": _along(0), "Tile": _expand, "Transpose": _transpose,
}  # fmt: skip
