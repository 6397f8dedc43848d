"""Graphs on the CPU through ONNX Runtime: inputs, outputs and state are bound once to fixed memory, in two
alternating sets. Its execution providers for GPUs are in onnxruntime_gpu.py.
"""

from typing import Any

import numpy as np

from engine.backends.base import Array, NotInstalled, State, Tensors, check_shapes, fill
from engine.errors import BackendError
from engine.manifest import GraphSpec

_PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeBackend:
    """`threads` 0 leaves the number of threads to ONNX Runtime. Raises `BackendError` where it is missing."""

    name = "onnxruntime"

    def __init__(self, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise NotInstalled(
                f"onnxruntime is not installed ({error}); pip install 'mouthpiece[onnxruntime]'"
            ) from None
        self._ort, self._threads = onnxruntime, threads

    def load(self, model: bytes, spec: GraphSpec) -> "OnnxRuntimeGraph":
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would take the second core from everything else that has to happen within a frame.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = self._ort.InferenceSession(model, options, providers=[_PROVIDER])
        except Exception as error:  # its exceptions share no public base class
            raise BackendError(f"onnxruntime cannot load {spec.file}: {str(error).strip().splitlines()[0]}") from None
        if session.get_providers() != [_PROVIDER]:
            raise BackendError(f"onnxruntime: expected {_PROVIDER}, the session runs on {session.get_providers()}")
        threads = "all threads" if not self._threads else f"{self._threads} thread{'s' * (self._threads > 1)}"
        return OnnxRuntimeGraph(self._ort, session, spec, f"ONNX Runtime on the CPU, {threads}")


class _Turn:
    """State of an `OnnxRuntimeGraph`: which of the two bindings reads it next."""

    def __init__(self, index: int) -> None:
        self.index = index


class OnnxRuntimeGraph:
    """A session with its memory; state lives in `place` (cpu, cuda), inputs and outputs in the computer's memory."""

    def __init__(self, ort: Any, session: Any, spec: GraphSpec, device: str, place: str = "cpu") -> None:
        self.spec, self.device, self._session = spec, device, session
        found = {t.name: _static_shape(t.shape) for t in (*session.get_inputs(), *session.get_outputs())}
        check_shapes(spec, found, "onnxruntime")
        self._inputs: dict[str, Array] = {
            t.name: np.zeros(t.shape, np.float32) for t in spec.inputs if t.role != "state"
        }
        shapes = spec.inputs_of("state")
        self._zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        self._leaves = [
            {
                name: ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, place, 0)
                for name, shape in shapes.items()
            }
            for _ in range(2)
        ]
        self._outputs: list[dict[str, Array]] = []
        self._bindings: list[Any] = []
        for turn in range(2):
            outputs = {t.name: np.zeros(t.shape, np.float32) for t in spec.outputs if t.role != "state"}
            binding = session.io_binding()
            for name, array in self._inputs.items():
                binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            for name, array in outputs.items():
                binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            for name, written in spec.state.items():
                binding.bind_ortvalue_input(name, self._leaves[turn][name])
                binding.bind_ortvalue_output(written, self._leaves[1 - turn][name])
            self._outputs.append(outputs)
            self._bindings.append(binding)

    def initial(self) -> State:
        for name, leaf in self._leaves[0].items():
            leaf.update_inplace(self._zeros[name])
        return _Turn(0)

    def bind(self, inputs: Tensors) -> None:
        fill(self._inputs, inputs, self.spec.file)

    def step(self, state: State, inputs: Tensors) -> tuple[State, dict[str, Array]]:
        if not isinstance(state, _Turn):
            raise BackendError(f"{self.spec.file}: this state belongs to another graph")
        if not self._bindings:
            raise BackendError(f"{self.spec.file}: the graph is closed")
        fill(self._inputs, inputs, self.spec.file)
        self._session.run_with_iobinding(self._bindings[state.index])
        return _Turn(1 - state.index), dict(self._outputs[state.index])

    def close(self) -> None:
        self._bindings = []


def _static_shape(shape: list[Any]) -> tuple[int, ...]:
    return tuple(side if isinstance(side, int) else -1 for side in shape)
