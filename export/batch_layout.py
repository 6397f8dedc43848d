"""An ONNX graph for N calls at once: how its tensors are laid out while it is rewritten operator by operator.

A tensor of shape [a, b, ...] is held as [N a, b, ...] ("long"). Most operators need no change then: their first side is
a batch already, or they do not look at it. Those that work along the first side get the tensor "split", as
[N, a, b, ...]: the same numbers in the same order, so going from one to the other is a Reshape. An operator without a
rule (export/batch_rules.py) is done N times.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from engine.errors import BackendError

Shape = tuple[int, ...]
Rule = Callable[["Batching", onnx.NodeProto], bool]


class Batching:
    """One graph being rewritten; a rule answers whether it took the node. `model()` does it all."""

    def __init__(self, model: onnx.ModelProto, count: int, rules: Mapping[str, Rule]) -> None:
        self.n, self._source, self._rules = count, model, rules
        self._nodes: list[onnx.NodeProto] = []
        self._added: dict[str, onnx.TensorProto] = {}
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self._constants = {weight.name: weight for weight in model.graph.initializer}
        self.shapes: dict[str, Shape] = {name: tuple(w.dims) for name, w in self._constants.items()}
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            sides = value.type.tensor_type.shape.dim
            if value.type.tensor_type.HasField("shape") and all(side.HasField("dim_value") for side in sides):
                self.shapes[value.name] = tuple(side.dim_value for side in sides)
        self._forms: dict[str, dict[Shape, str]] = {
            value.name: {self.long(value.name): value.name} for value in model.graph.input
        }

    def long(self, name: str) -> Shape:
        shape = self.shapes.get(name)
        if shape is None:
            raise BackendError(
                f"tensor {name} has no static shape; a graph that is batched may hold static shapes only"
            )
        return (self.n * shape[0], *shape[1:]) if shape else (self.n,)

    def split(self, name: str, rank: int) -> Shape:
        """[N, 1, ..., a, b, ...] with `rank` sides after the first."""
        shape = self.shapes[name]
        return (self.n, *(1,) * (rank - len(shape)), *shape)

    def varies(self, name: str) -> bool:
        """Whether a tensor depends on the graph's inputs."""
        return name in self._forms

    def same(self, name: str, as_long_as: str) -> None:
        """`name` is the same numbers as the long `as_long_as`, in a shape of its own."""
        self._forms[name] = {self.long(as_long_as): self.form(as_long_as, self.long(as_long_as))}
        self.form(name, self.long(name))

    def form(self, name: str, shape: Shape) -> str:
        """The varying tensor in another shape of as many numbers, in the same order."""
        forms = self._forms[name]
        if shape not in forms:
            made = name if shape == self.long(name) else f"{name}@{'x'.join(map(str, shape))}"
            self._emit("Reshape", [next(iter(forms.values())), self.constant(np.array(shape, np.int64))], [made])
            forms[shape] = made
        return forms[shape]

    def constant(self, value: NDArray[Any]) -> str:
        name = f"batch.{len(self._added)}"
        self._added[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def value(self, name: str) -> NDArray[Any] | None:
        """What a constant holds; None for what is no constant."""
        if name not in self._constants:
            return None
        found: NDArray[Any] = numpy_helper.to_array(self._constants[name])
        return found

    def repeated(self, name: str) -> str:
        """A tensor with the long first side; a constant is the same for every avatar."""
        if self.varies(name):
            return self.form(name, self.long(name))
        value = self.value(name)
        if value is None:
            return self._tiled(name)
        return self.constant(np.concatenate([np.atleast_1d(value)] * self.n))

    def _tiled(self, name: str) -> str:
        made = f"{name}@repeated"
        if not any(made in node.output for node in self._nodes):
            counts = self.constant(np.array([self.n] + [1] * (len(self.shapes[name]) - 1), np.int64))
            self._emit("Tile", [name, counts], [made])
        return made

    def _emit(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], like: onnx.NodeProto | None = None, **more: Any
    ) -> None:
        node = helper.make_node(kind, list(inputs), list(outputs), name=f"{outputs[0]}.node")
        if like is not None:
            node.domain = like.domain
            node.attribute.extend(a for a in like.attribute if a.name not in more)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(more.items()))
        self._nodes.append(node)

    def keep(self, node: onnx.NodeProto, inputs: Sequence[str], **more: Any) -> None:
        """The operator as it is, on long tensors."""
        self._emit(node.op_type, inputs, node.output, node, **more)
        for name in filter(None, node.output):
            self._forms[name] = {self.long(name): name}

    def apart(self, node: onnx.NodeProto, inputs: Sequence[str], **more: Any) -> None:
        """The operator on split tensors."""
        outputs = [name and f"{name}@split" for name in node.output]
        self._emit(node.op_type, inputs, outputs, node, **more)
        for name, made in zip(node.output, outputs):
            if name:
                self._forms[name] = {(self.n, *self.shapes[name]): made}

    def model(self) -> onnx.ModelProto:
        graph = self._source.graph
        for node in graph.node:
            if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
                raise BackendError(
                    f"operator {node.op_type} ({node.name}) holds a graph of its own; it cannot be batched"
                )
            self._convert(node)
        for value in graph.output:
            made = self.form(value.name, self.long(value.name))
            if made != value.name:
                self._emit("Identity", [made], [value.name])
        done = onnx.ModelProto()
        done.CopyFrom(self._source)
        del done.graph.node[:], done.graph.value_info[:], done.graph.initializer[:]
        for value in (*done.graph.input, *done.graph.output):
            sides = value.type.tensor_type.shape.dim
            (sides[0] if sides else sides.add()).dim_value = self.long(value.name)[0]
        wanted, used = {value.name for value in graph.output}, list[onnx.NodeProto]()
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                used.append(node)
        done.graph.node.extend(reversed(used))
        kept = {**self._constants, **self._added}
        done.graph.initializer.extend(tensor for name, tensor in kept.items() if name in wanted)
        onnx.checker.check_model(done, full_check=True)
        return done

    def _convert(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant":
            self._constant_node(node)
            return
        if not any(self.varies(name) for name in node.input):
            self._nodes.append(node)
            return
        if node.op_type == "Shape":
            raise BackendError(f"operator Shape ({node.name}) is left in the graph; export it with static shapes")
        rule = self._rules.get(node.op_type)
        if rule is None or not rule(self, node):
            self._one_by_one(node)

    def _constant_node(self, node: onnx.NodeProto) -> None:
        attribute = node.attribute[0]
        value = helper.get_attribute_value(attribute)
        array = numpy_helper.to_array(value) if attribute.type == onnx.AttributeProto.TENSOR else np.asarray(value)
        if array.dtype == np.float64 and attribute.type != onnx.AttributeProto.TENSOR:
            array = array.astype(np.float32)
        self._constants[node.output[0]] = numpy_helper.from_array(array, node.output[0])
        self.shapes[node.output[0]] = array.shape

    def _one_by_one(self, node: onnx.NodeProto) -> None:
        """An operator without a rule: N of it, each on its own part. Always right, never fast."""
        parts: dict[str, list[str]] = {}
        for name in dict.fromkeys(name for name in node.input if name and self.varies(name)):
            parts[name] = [f"{name}@{node.output[0]}.{k}" for k in range(self.n)]
            whole = self.form(name, self.long(name))
            if not self.shapes[name]:
                raise BackendError(f"operator {node.op_type} ({node.name}) of a varying scalar cannot be batched")
            sides = self.constant(np.full(self.n, self.shapes[name][0], np.int64))
            self._emit("Split", [whole, sides], parts[name], axis=0)
        for k in range(self.n):
            inputs = [parts[name][k] if name in parts else name for name in node.input]
            self._emit(node.op_type, inputs, [name and f"{name}@{k}" for name in node.output], node)
        for name in filter(None, node.output):
            self._emit("Concat", [f"{name}@{k}" for k in range(self.n)], [name], axis=0)
            self._forms[name] = {self.long(name): name}
