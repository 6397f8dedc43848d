"""Graphs on an NVIDIA GPU through TensorRT: plans from this user's cache, tensors by address, one launch for a step.

State never moves: two sets of leaves swap roles by address, and the work of a step (inputs up, network, outputs down)
is captured once for each of the two, so that a step is one launch. Plans are built by `python -m export.trt`; nothing
here builds or trusts a file that `PlanCache` did not open.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.base import Array, NotInstalled, State, Tensors, check_shapes, fill
from engine.backends.cuda import CapturedGraph, CudaDevice, DeviceBuffer, Gpu
from engine.backends.plans import PlanCache, PlanKey, Precision
from engine.errors import BackendError
from engine.manifest import GraphSpec

if TYPE_CHECKING:
    import tensorrt as trt

RECIPE = 1  # counts changes of the precision conversion (export/precision.py) that make older plans worth rebuilding
# What `load` looks for: the fastest that keeps the picture's quality first; int8 only where nothing else was built.
PREFERRED: tuple[Precision, ...] = ("fp16", "bf16", "fp32", "int8")


class TensorRtBackend:
    """Plans for the packs' graphs on one GPU. Raises `BackendError` where TensorRT, pycuda or the GPU is missing.

    `threads` is accepted for the protocol; the GPU has its own. All graphs of one back end share a device and its
    stream.
    """

    name = "tensorrt"

    def __init__(
        self,
        threads: int = 0,
        device: int = 0,
        cache: PlanCache | None = None,
        precisions: tuple[Precision, ...] = PREFERRED,
    ) -> None:
        self._version, self._precisions = tensorrt_version(), precisions
        self._index, self._cache = device, cache or PlanCache()
        self._device: CudaDevice | None = CudaDevice(device)
        self._graphs = 0

    def load(self, model: bytes, spec: GraphSpec) -> "TensorRtGraph":
        """Raises `PlanMissing` if no plan was built for this graph here, `BackendError` if the plan is not what `spec`
        declares.
        """
        device = self._device = self._device or CudaDevice(self._index)
        self._graphs += 1
        try:
            wanted = plan_key(model, self._precisions[0], self._version, device.gpu)
            key, sealed = self._cache.find(wanted, self._precisions)
            label = f"TensorRT {key.tensorrt} on {key.gpu}, {key.precision}"
            return TensorRtGraph(device, sealed.payload, spec, label, self._released, host_code=key.version_compatible)
        except BaseException:
            self._released()
            raise

    def _released(self) -> None:
        """The device is given back with the last graph, also with one that could not be loaded."""
        self._graphs -= 1
        if not self._graphs and self._device is not None:
            self._device.close()
            self._device = None


def tensorrt_version() -> str:
    """Raises `BackendError` where TensorRT is missing or older than 10."""
    try:
        import tensorrt as trt
    except (ImportError, OSError) as error:
        raise NotInstalled(f"tensorrt is not installed ({error}); pip install 'mouthpiece[tensorrt]'") from None
    version = str(vars(trt)["__version__"])
    if int(version.split(".")[0]) < 10:
        raise BackendError(f"TensorRT 10 or later is needed, found {version}; pip install --upgrade tensorrt")
    return version


def plan_key(
    model: bytes,
    precision: Precision,
    version: str,
    gpu: Gpu,
    *,
    workspace_bytes: int = 0,
    opt_level: int = 0,
    hardware_compat: str = "none",
    version_compatible: bool = False,
    calibration: str = "",
) -> PlanKey:
    """The key of the plan of `model`, the pack's own graph before any conversion."""
    return PlanKey(
        graph_sha256=hashlib.sha256(model).hexdigest(),
        precision=precision,
        recipe=RECIPE,
        tensorrt=version,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        driver=gpu.driver,
        workspace_bytes=workspace_bytes,
        opt_level=opt_level,
        hardware_compat=hardware_compat,
        version_compatible=version_compatible,
        calibration=calibration,
    )


def make_log() -> "tuple[trt.ILogger, list[str]]":
    """A logger for TensorRT, and the list where its errors and warnings gather."""
    import tensorrt as trt

    lines: list[str] = []

    class Log(trt.ILogger):  # type: ignore[misc]  # Any where TensorRT's stubs are not installed
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: "trt.ILogger.Severity", msg: str) -> None:
            if severity in (
                trt.ILogger.Severity.INTERNAL_ERROR,
                trt.ILogger.Severity.ERROR,
                trt.ILogger.Severity.WARNING,
            ):
                lines.append(f"{severity.name.lower()}: {msg}")

    return Log(), lines


class _Turn:
    """State of a `TensorRtGraph`: which of the two sets of leaves the next step reads."""

    def __init__(self, index: int) -> None:
        self.index = index


class TensorRtGraph:
    """A plan with its memory. Any thread may call it, one at a time; the device's context is current only during a
    call.
    """

    def __init__(
        self,
        device: CudaDevice,
        plan: bytes,
        spec: GraphSpec,
        label: str,
        released: Any = lambda: None,
        *,
        host_code: bool = False,
    ) -> None:
        self.spec, self.device, self._device, self._released = spec, label, device, released
        self._captured: list[CapturedGraph] = []
        self._buffers: list[DeviceBuffer] = []
        with device.current():
            try:
                self._engine, self._context = self._deserialize(plan, host_code)
                self._allocate()
                self._prepare()
            except BaseException:
                with suppress(BackendError):  # the stream may still hold work on memory that is freed next
                    device.synchronize()
                self._free()
                raise
        self._open = True

    def _deserialize(self, plan: bytes, host_code: bool) -> "tuple[trt.ICudaEngine, trt.IExecutionContext]":
        import tensorrt as trt

        self._log, lines = make_log()
        try:
            self._runtime = trt.Runtime(self._log)
        except TypeError as error:  # its bindings raise this where TensorRT answers nothing
            raise BackendError(
                f"TensorRT cannot start ({'; '.join(lines) or error}); check the NVIDIA driver with nvidia-smi"
            ) from None
        # A version-compatible plan carries its own small runtime; it is ours, since the cache checked its seal.
        self._runtime.engine_host_code_allowed = host_code
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BackendError(
                f"TensorRT refuses the plan of {self.spec.file} "
                f"({'; '.join(lines) or 'no reason given'}); build it again"
            )
        check_shapes(self.spec, engine_shapes(engine, self.spec.file), "tensorrt")
        context = engine.create_execution_context()
        if context is None:
            raise BackendError(
                f"TensorRT cannot make a context for {self.spec.file} ({'; '.join(lines)}); is the GPU's memory full?"
            )
        return engine, context

    def _allocate(self) -> None:
        """Pinned arrays for inputs, two pinned sets of outputs, device memory for all; leaves only on the device."""
        shape = {t.name: tuple(t.shape) for t in self.spec.inputs}
        shape |= {t.name: tuple(t.shape) for t in self.spec.outputs}
        device = self._device
        self._inputs: dict[str, Array] = {
            t.name: device.pinned(shape[t.name]) for t in self.spec.inputs if t.role != "state"
        }
        self._results: list[dict[str, Array]] = [
            {t.name: device.pinned(shape[t.name]) for t in self.spec.outputs if t.role != "state"} for _ in range(2)
        ]
        self._each_step = [t.name for t in self.spec.inputs if t.role not in ("state", "person")]
        self._memory = {name: self._buffer(shape[name]) for name in (*self._inputs, *self._results[0])}
        self._leaves = [{name: self._buffer(shape[name]) for name in self.spec.state} for _ in range(2)]

    def _buffer(self, shape: tuple[int, ...]) -> DeviceBuffer:
        buffer = self._device.allocate(int(np.prod(shape)) * np.dtype(np.float32).itemsize)
        self._buffers.append(buffer)
        return buffer

    def _prepare(self) -> None:
        """Runs each turn once, which does TensorRT's deferred set-up, then captures it. What cannot be captured runs
        plainly.
        """
        for turn in range(2):
            self._address(turn)
            self._enqueue(turn)
            self._device.synchronize()
            try:
                self._captured.append(self._device.capture(partial(self._enqueue, turn)))
            except BackendError as error:
                self._drop_captures()
                self.device += f" (launched step by step: {error})"
                return

    def _address(self, turn: int) -> None:
        """Points the context at this turn's memory: it reads one set of leaves and writes the other."""
        places = {name: buffer.address for name, buffer in self._memory.items()}
        for read, written in self.spec.state.items():
            places[read] = self._leaves[turn][read].address
            places[written] = self._leaves[1 - turn][read].address
        for name, address in places.items():
            if not self._context.set_tensor_address(name, address):
                raise BackendError(
                    f"{self.spec.file}: TensorRT does not take an address for {name}; build the plan again"
                )

    def _enqueue(self, turn: int) -> None:
        for name in self._each_step:
            self._device.upload(self._memory[name], self._inputs[name])
        if not self._context.execute_async_v3(self._device.stream_handle):
            raise BackendError(f"{self.spec.file}: TensorRT could not run the plan; build it again")
        for name, array in self._results[turn].items():
            self._device.download(array, self._memory[name])

    def initial(self) -> State:
        self._check_open()
        with self._device.current():
            for buffer in self._leaves[0].values():
                self._device.clear(buffer)
        return _Turn(0)

    def bind(self, inputs: Tensors) -> None:
        self._check_open()
        fill(self._inputs, inputs, self.spec.file)
        lasting = [name for name in inputs if name not in self._each_step]
        if not lasting:
            return
        with self._device.current():
            for name in lasting:
                self._device.upload(self._memory[name], self._inputs[name])
            self._device.synchronize()

    def step(self, state: State, inputs: Tensors) -> tuple[State, dict[str, Array]]:
        if not isinstance(state, _Turn):
            raise BackendError(f"{self.spec.file}: this state belongs to another graph")
        self.bind(inputs)
        with self._device.current():
            self._launch(state.index)
            self._device.synchronize()
        return _Turn(1 - state.index), dict(self._results[state.index])

    def _launch(self, turn: int) -> None:
        if self._captured:
            self._captured[turn].launch()
            return
        self._address(turn)
        self._enqueue(turn)

    def latencies_ms(self, steps: int) -> NDArray[np.float64]:
        """Times of `steps` steps on the GPU, copies included, with the inputs as they are; for reports."""
        with self._device.current():
            return np.array([self._device.milliseconds(partial(self._launch, k % 2)) for k in range(steps)])

    @property
    def layers(self) -> int:
        """Layers of the plan, after fusion."""
        return int(self._engine.num_layers)

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        with self._device.current():
            self._device.synchronize()
            self._free()
        self._released()

    def _free(self) -> None:
        """Graphs first, then the context and the plan, then the memory they point to."""
        self._drop_captures()
        for name in ("_context", "_engine", "_runtime"):
            if hasattr(self, name):
                delattr(self, name)
        for buffer in self._buffers:
            buffer.free()
        self._buffers = []
        self._inputs, self._results = {}, [{}, {}]  # page-locked memory goes while its context is still current

    def _drop_captures(self) -> None:
        for captured in self._captured:
            captured.close()
        self._captured = []

    def _check_open(self) -> None:
        if not self._open:
            raise BackendError(f"{self.spec.file}: the graph is closed")


def engine_shapes(engine: "trt.ICudaEngine", file: str) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of a plan's inputs and outputs. Raises `BackendError` for anything but float32 on the device."""
    import tensorrt as trt

    found: dict[str, tuple[int, ...]] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype, place = engine.get_tensor_dtype(name), engine.get_tensor_location(name)
        if dtype != trt.DataType.FLOAT or place != trt.TensorLocation.DEVICE:
            raise BackendError(
                f"tensorrt: {file}: tensor {name} is {dtype} on {place}; expected FLOAT on DEVICE; build the plan again"
            )
        shape = engine.get_tensor_shape(name)
        found[name] = tuple(int(shape[axis]) for axis in range(len(shape)))
    return found
