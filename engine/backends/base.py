"""The one protocol by which the engine runs a graph, whatever runs it.

A graph is a pure function of its inputs and of its state. State is opaque: a caller gets it from `initial` or
`step`, hands it to the next `step` once, and never looks inside. So a back end may alternate two sets of buffers and
copy nothing.
"""

import threading
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import BackendError
from engine.manifest import GraphSpec

Array = NDArray[np.float32]
Tensors = Mapping[str, Array]


class NotInstalled(BackendError):
    """A back end is passed over because its package is not on this machine."""


class State(Protocol):
    """Opaque; consumed by the `step` that it is given to."""


class Graph(Protocol):
    """A loaded graph. One thread at a time may call it."""

    spec: GraphSpec
    device: str  # what runs it, in words: "OpenVINO on the CPU, 2 threads"

    def initial(self) -> State:
        """The state before the first hop: zeros. Invalidates every state handed out before."""

    def bind(self, inputs: Tensors) -> None:
        """Sets inputs that stay until they are bound or given again, such as a person's tensors. Copies them."""

    def step(self, state: State, inputs: Tensors) -> tuple[State, dict[str, Array]]:
        """Runs once. Outputs other than state, by name; they are views that the step after the next overwrites.

        Inputs are float32 of the declared shapes; missing ones must have been bound. Raises `BackendError` otherwise.
        """

    def close(self) -> None:
        """Frees it; further calls are errors. May be called twice."""


class Backend(Protocol):
    """Something that can load graphs on this machine."""

    name: str  # what a user writes: "openvino"

    def load(self, model: bytes, spec: GraphSpec) -> Graph:
        """Raises `BackendError` if the graph does not load or is not what `spec` declares."""


def check_shapes(spec: GraphSpec, found: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Raises `BackendError` unless `found` (every input and output of the loaded graph) is what the manifest
    declares.
    """
    declared = {t.name: tuple(t.shape) for t in spec.inputs} | {t.name: tuple(t.shape) for t in spec.outputs}
    for tensor in declared.keys() | found.keys():
        if declared.get(tensor) != found.get(tensor):
            expected, is_now = declared.get(tensor, "none"), found.get(tensor, "none")
            reason = f"tensor {tensor}: the manifest says {expected}, the graph has {is_now}; export the pack again"
            raise BackendError(f"{name}: {spec.file}: {reason}")


def fill(buffers: dict[str, Array], inputs: Tensors, file: str) -> None:
    """Copies `inputs` into the input buffers of the same names.

    Raises `BackendError` for a name or shape that does not fit.
    """
    for name, value in inputs.items():
        buffer = buffers.get(name)
        if buffer is None or buffer.shape != value.shape:
            expected = buffer.shape if buffer is not None else f"one of {', '.join(buffers)}"
            raise BackendError(f"{file}: input {name} {value.shape}: expected {expected}")
        np.copyto(buffer, value, casting="same_kind")


class TakingTurns:
    """A graph that shares one device with others: whoever holds the lock runs, so that several threads may call."""

    def __init__(self, graph: Graph, lock: threading.Lock) -> None:
        self._graph, self._lock, self.spec, self.device = graph, lock, graph.spec, graph.device

    def initial(self) -> State:
        with self._lock:
            return self._graph.initial()

    def bind(self, inputs: Tensors) -> None:
        with self._lock:
            self._graph.bind(inputs)

    def step(self, state: State, inputs: Tensors) -> tuple[State, dict[str, Array]]:
        with self._lock:
            return self._graph.step(state, inputs)

    def close(self) -> None:
        with self._lock:
            self._graph.close()


class _PoisonedState:
    def __init__(self, inner: State) -> None:
        self.inner: State | None = inner


class Poisoned:
    """A graph for tests: using a state twice, or outputs after they were overwritten, is an error or NaN instead of
    luck.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph, self.spec, self.device = graph, graph.spec, graph.device
        self._handed: list[dict[str, Array]] = []

    def initial(self) -> State:
        return _PoisonedState(self._graph.initial())

    def bind(self, inputs: Tensors) -> None:
        self._graph.bind(inputs)

    def step(self, state: Any, inputs: Tensors) -> tuple[State, dict[str, Array]]:
        if not isinstance(state, _PoisonedState) or state.inner is None:
            raise BackendError(f"{self.spec.file}: this state was consumed by an earlier step")
        inner, state.inner = state.inner, None
        following, outputs = self._graph.step(inner, inputs)
        copies = {name: value.copy() for name, value in outputs.items()}
        self._handed.append(copies)
        if len(self._handed) > 1:
            for value in self._handed.pop(0).values():
                value.fill(np.nan)
        return _PoisonedState(following), copies

    def close(self) -> None:
        self._graph.close()
