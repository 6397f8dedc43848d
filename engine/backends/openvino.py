"""Graphs on the CPU through OpenVINO: two requests with preset tensors take turns, so that state is never copied."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from engine.backends.base import Array, NotInstalled, State, Tensors, check_shapes, fill
from engine.errors import BackendError
from engine.manifest import GraphSpec


def cache_folder() -> Path:
    """Where compiled graphs are kept between runs: the user's cache folder."""
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mouthpiece" / "openvino"


class OpenVinoBackend:
    """`threads` 0 leaves the number of threads to OpenVINO. Raises `BackendError` where OpenVINO is missing."""

    name = "openvino"

    def __init__(self, threads: int = 0) -> None:
        # OpenVINO reports its import to a web service unless its telemetry package is out of sight; nothing leaves this computer.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        try:
            import openvino
        except ImportError as error:
            raise NotInstalled(f"openvino is not installed ({error}); pip install openvino") from None
        self._ov = openvino
        self._core = openvino.Core()
        if "CPU" not in self._core.available_devices:
            raise BackendError("openvino finds no CPU device; reinstall openvino")
        self._options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            # Pinned, all graphs with one thread would share the first core.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._threads = threads
        try:
            cache_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
            self._options["CACHE_DIR"] = str(cache_folder())
        except OSError:
            pass  # a read-only home only costs compile time

    def load(self, model: bytes, spec: GraphSpec) -> "OpenVinoGraph":
        try:
            compiled = self._core.compile_model(self._wanted(model, spec), "CPU", self._options)
        except RuntimeError as error:
            raise BackendError(f"openvino cannot load {spec.file}: {str(error).strip().splitlines()[-1]}") from None
        threads = self._threads or compiled.get_property("INFERENCE_NUM_THREADS")
        return OpenVinoGraph(self._ov, compiled, spec, f"OpenVINO on the CPU, {threads} thread{'s' * (threads > 1)}")

    def _wanted(self, model: bytes, spec: GraphSpec) -> Any:
        """The graph without what only serves outputs that are not declared."""
        whole = self._core.read_model(model=model)
        declared = {t.name for t in spec.outputs}
        results = [r for r in whole.get_results() if r.output(0).get_names() & declared]
        if not results or len(results) == len(whole.get_results()):
            return whole
        return self._ov.Model(results, whole.get_parameters(), "part")


class _Turn:
    """State of an `OpenVinoGraph`: which of the two requests reads it next."""

    def __init__(self, index: int) -> None:
        self.index = index


class OpenVinoGraph:
    def __init__(self, ov: Any, compiled: Any, spec: GraphSpec, device: str) -> None:
        self.spec, self.device = spec, device
        ports = _named_ports(compiled, {t.name for t in spec.inputs} | {t.name for t in spec.outputs})
        found = {name: _static_shape(port) for name, port in ports.items()}
        check_shapes(spec, found, "openvino")
        self._inputs: dict[str, Array] = {
            t.name: np.zeros(t.shape, np.float32) for t in spec.inputs if t.role != "state"
        }
        # Leaves 0 are what request 0 reads and request 1 writes; leaves 1 the other way round.
        self._leaves = [
            {name: np.zeros(shape, np.float32) for name, shape in spec.inputs_of("state").items()} for _ in range(2)
        ]
        self._outputs: list[dict[str, Array]] = []
        self._requests: list[Any] = []
        for turn in range(2):
            outputs = {t.name: np.zeros(t.shape, np.float32) for t in spec.outputs if t.role != "state"}
            written = {spec.state[name]: leaf for name, leaf in self._leaves[1 - turn].items()}
            request = compiled.create_infer_request()
            for name, array in {**self._inputs, **self._leaves[turn], **outputs, **written}.items():
                request.set_tensor(ports[name], ov.Tensor(array, shared_memory=True))
            self._outputs.append(outputs)
            self._requests.append(request)

    def initial(self) -> State:
        for leaf in self._leaves[0].values():
            leaf.fill(0)
        return _Turn(0)

    def bind(self, inputs: Tensors) -> None:
        fill(self._inputs, inputs, self.spec.file)

    def step(self, state: State, inputs: Tensors) -> tuple[State, dict[str, Array]]:
        if not isinstance(state, _Turn):
            raise BackendError(f"{self.spec.file}: this state belongs to another graph")
        if not self._requests:
            raise BackendError(f"{self.spec.file}: the graph is closed")
        fill(self._inputs, inputs, self.spec.file)
        # `infer` works in this thread where one thread is enough; handing over to another costs more than a hop takes.
        self._requests[state.index].infer()
        return _Turn(1 - state.index), dict(self._outputs[state.index])

    def close(self) -> None:
        self._requests = []


def _named_ports(compiled: Any, declared: set[str]) -> dict[str, Any]:
    """Ports by their declared names. Optimising may give a port further names, of operations that fell away."""
    ports = {}
    for port in (*compiled.inputs, *compiled.outputs):
        names = port.get_names()
        ports[min(names & declared or names)] = port
    return ports


def _static_shape(port: Any) -> tuple[int, ...]:
    shape = port.get_partial_shape()
    return tuple(shape.to_shape()) if shape.is_static else tuple(-1 for _ in range(len(shape)))
