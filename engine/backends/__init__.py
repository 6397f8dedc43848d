"""Choosing what runs the graphs. `auto` takes the fastest that works here and says why it passed over the others."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module

from engine.backends.base import Backend, Graph, NotInstalled, State, TakingTurns, Tensors
from engine.backends.halves import InHalves, halves, without_eyes
from engine.errors import BackendError
from engine.manifest import GraphSpec

__all__ = ["AUTOMATIC", "BACKENDS", "Backend", "Graph", "Loaded", "State", "Tensors", "load_graphs", "open_backend"]

# Fastest first: name -> (module, class). A module is imported only when its turn comes.
BACKENDS = {
    "tensorrt": ("engine.backends.tensorrt", "TensorRtBackend"),
    "onnxruntime-tensorrt": ("engine.backends.onnxruntime_gpu", "TensorRtProvider"),
    "onnxruntime-cuda": ("engine.backends.onnxruntime_gpu", "CudaProvider"),
    "onnxruntime-directml": ("engine.backends.onnxruntime_gpu", "DirectMlProvider"),
    "onnxruntime-coreml": ("engine.backends.onnxruntime_gpu", "CoreMlProvider"),
    "openvino": ("engine.backends.openvino", "OpenVinoBackend"),
    "onnxruntime": ("engine.backends.onnxruntime", "OnnxRuntimeBackend"),
}

# What `auto` tries, in this order. The others have to be named: one compiles for minutes when it loads, two run only part
# of a face on the GPU.
AUTOMATIC = ("tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime")

# Those whose graphs may run side by side in several threads; the graphs of others take turns.
PARALLEL = ("openvino", "onnxruntime")

# Those that leave out what nobody asks for, when a declaration names only some of a graph's outputs.
PARTIAL = ("openvino",)
MOST_THREADS = 4  # for half a decoder; more of them only wait for each other


@dataclass(frozen=True)
class Loaded:
    """Graphs on one back end and, under `auto`, for each back end that was passed over why: `name: reason`."""

    graphs: tuple[Graph, ...]
    backend: str
    passed_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For people: what runs the graphs, and why nothing faster does."""
        why: dict[str, list[str]] = {}
        for name, _, reason in (passed.partition(": ") for passed in self.passed_over):
            why.setdefault(reason, []).append(name)
        words = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in why.items())
        return self.graphs[-1].device + (f" ({words})" if words else "")


def load_graphs(models: Sequence[tuple[bytes, GraphSpec]], backend: str = "auto", threads: int = 0) -> Loaded:
    """Loads (ONNX bytes, declaration) pairs on one back end; only `auto` falls back.

    `threads` 0 leaves their number to the back end, which may run the two halves of a decoder side by side. Raises
    `BackendError` with the reason if the back end cannot be had or a graph does not load on it; under `auto`, if that is
    so for every one.
    """
    if backend != "auto":
        return Loaded(_load(models, backend, threads), backend)
    reasons: list[str] = []
    for candidate in AUTOMATIC:
        try:
            return Loaded(_load(models, candidate, threads), candidate, tuple(reasons))
        except NotInstalled:
            reasons.append(f"{candidate}: not installed")
        except BackendError as error:
            reasons.append(f"{candidate}: {str(error).removeprefix(f'{candidate}: ')}")
    raise BackendError(f"no back end works here: {'; '.join(reasons)}")


def open_backend(name: str, threads: int = 0) -> Backend:
    """The back end of that name. Raises `BackendError` if it is unknown or cannot be had here."""
    if name not in BACKENDS:
        raise BackendError(f"back end {name!r} is unknown; choose auto, {', '.join(BACKENDS)}")
    module, kind = BACKENDS[name]
    backend: Backend = getattr(import_module(module), kind)(threads)
    return backend


def _load(models: Sequence[tuple[bytes, GraphSpec]], name: str, threads: int) -> tuple[Graph, ...]:
    if name in PARTIAL and not threads:
        threads = min(MOST_THREADS, max(1, (os.cpu_count() or 1) // 2))
        side_by_side = (os.cpu_count() or 1) > 1
    else:
        side_by_side = False
    backend = open_backend(name, threads)
    parts = [(halves(spec) if name in PARTIAL else None) or (spec,) for _, spec in models]
    wanted = [(model, part) for (model, _), found in zip(models, parts) for part in found]
    loaded = iter(_load_all(backend, wanted, at_once=(os.cpu_count() or 1) if name in PARALLEL else 1))
    graphs: list[Graph] = []
    for (model, spec), found in zip(models, parts):
        first = next(loaded)
        if len(found) == 1:
            graphs.append(first)
        else:
            eyeless = without_eyes(first.spec)
            later = partial(backend.load, model, eyeless) if eyeless else None
            graphs.append(InHalves(first, next(loaded), spec, side_by_side, later))
    if name in PARALLEL:
        return tuple(graphs)
    lock = threading.Lock()
    return tuple(TakingTurns(graph, lock) for graph in graphs)


def _load_all(backend: Backend, models: Sequence[tuple[bytes, GraphSpec]], at_once: int) -> list[Graph]:
    """All or none, in order."""
    with ThreadPoolExecutor(at_once) as pool:
        loading = [pool.submit(backend.load, model, spec) for model, spec in models]
    for failed in filter(None, (future.exception() for future in loading)):
        for future in loading:
            if not future.exception():
                future.result().close()
        raise failed
    return [future.result() for future in loading]
