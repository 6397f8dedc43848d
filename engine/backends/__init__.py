"""Choosing what runs the graphs. `auto` takes the fastest that works here and says why it passed over the others."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from engine.backends.base import Backend, Graph, State, TakingTurns, Tensors
from engine.errors import BackendError
from engine.manifest import GraphSpec

__all__ = ["BACKENDS", "Backend", "Graph", "Loaded", "State", "Tensors", "load_graphs", "open_backend"]

# Fastest first: name -> (module, class). A module is imported only when its turn comes.
BACKENDS = {
    "tensorrt": ("engine.backends.tensorrt", "TensorRtBackend"),
    "openvino": ("engine.backends.openvino", "OpenVinoBackend"),
    "onnxruntime": ("engine.backends.onnxruntime", "OnnxRuntimeBackend"),
}

# Those whose graphs may run side by side in several threads; the graphs of others take turns.
PARALLEL = ("openvino", "onnxruntime")


@dataclass(frozen=True)
class Loaded:
    """Graphs on one back end and, under `auto`, one reason for each back end that was passed over."""

    graphs: tuple[Graph, ...]
    backend: str
    passed_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.backend + "".join(f"; not {reason}" for reason in self.passed_over)


def load_graphs(models: Sequence[tuple[bytes, GraphSpec]], backend: str = "auto", threads: int = 0) -> Loaded:
    """Loads (ONNX bytes, declaration) pairs on one back end; only `auto` falls back.

    `threads` 0 leaves their number to the back end. Raises `BackendError` with the reason if the back end cannot be
    had or a graph does not load on it; under `auto`, if that is so for every one.
    """
    if backend != "auto":
        return Loaded(_load(models, backend, threads), backend)
    reasons: list[str] = []
    for candidate in BACKENDS:
        try:
            return Loaded(_load(models, candidate, threads), candidate, tuple(reasons))
        except BackendError as error:
            reasons.append(str(error) if str(error).startswith(candidate) else f"{candidate}: {error}")
    raise BackendError(f"no back end works here: {'; '.join(reasons)}")


def open_backend(name: str, threads: int = 0) -> Backend:
    """The back end of that name. Raises `BackendError` if it is unknown or cannot be had here."""
    if name not in BACKENDS:
        raise BackendError(f"back end {name!r} is unknown; choose auto, {', '.join(BACKENDS)}")
    module, kind = BACKENDS[name]
    backend: Backend = getattr(import_module(module), kind)(threads)
    return backend


def _load(models: Sequence[tuple[bytes, GraphSpec]], name: str, threads: int) -> tuple[Graph, ...]:
    backend = open_backend(name, threads)
    graphs = tuple(backend.load(model, spec) for model, spec in models)
    if name in PARALLEL:
        return graphs
    lock = threading.Lock()
    return tuple(TakingTurns(graph, lock) for graph in graphs)
