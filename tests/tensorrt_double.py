"""TensorRT without TensorRT, for tests: the module with its real names and enum values, a builder that keeps the ONNX
graph as its plan, and contexts that run it through ONNX Runtime on the addresses they were given.

Every call and every attribute that is set is recorded, so that a test can hold the record against the real bindings
(test_trt_api.py). What the real module refuses is refused here too: unknown attributes, plans of another version,
timing caches of another version, networks that are not strongly typed.
"""

import enum
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from cuda_double import STREAM, Cuda

ENUMS: dict[str, dict[str, dict[str, int]]] = json.loads(
    Path(__file__).with_name("tensorrt_enums.json").read_text(encoding="utf-8")
)
VERSIONS = tuple(ENUMS)
MADE_BY_NAME = ("Builder", "OnnxParser", "Runtime")  # the other classes are only ever handed out
PHASES = (("Building Engine", None, 2), ("Profiling", "Building Engine", 3), ("Linking", "Building Engine", 1))


@dataclass(frozen=True)
class Call:
    """A call, a constructor (`__init__`) or an attribute that was set (`=`), with the names of the types that went in."""

    kind: str
    name: str
    arguments: tuple[str, ...]
    keywords: tuple[str, ...] = ()


@dataclass
class TensorRt:
    """One installation; `fails` names what goes wrong in it: driver, parse, build, context, address, empty timing."""

    cuda: Cuda
    version: str = VERSIONS[-1]
    fails: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    builds: int = 0
    during_build: Callable[[], None] = lambda: None

    def module(self) -> ModuleType:
        made = ModuleType("tensorrt")
        vars(made)["__version__"] = self.version
        enums = {name: enum.IntEnum(name.split(".")[-1], values) for name, values in ENUMS[self.version].items()}
        severity = enums.pop("ILogger.Severity")
        vars(made).update(enums)
        for kind in (ILogger, IProgressMonitor, Builder, INetworkDefinition, OnnxParser, IBuilderConfig, Runtime):
            vars(made)[kind.__name__] = _bound(kind, self, made)
        vars(made)["ILogger"].Severity = severity
        return made

    def record(self, thing: object, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        kind = next(k.__name__ for k in type(thing).__mro__ if k.__module__ == __name__ and k is not Recorded)
        types = tuple(type(value).__name__ for value in (*arguments, *keywords.values()))
        self.calls.append(Call(kind, name, types, tuple(keywords)))


def _bound(kind: type, trt: "TensorRt", module: ModuleType) -> Any:
    """The class as it stands in one installation."""
    return type(kind.__name__, (kind,), {"trt": trt, "module": module})


class Recorded:
    """Public methods of subclasses tell `trt` that they were called; attributes may be set only where `settable` says."""

    trt: TensorRt
    module: Any
    settable: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        for name, method in list(vars(cls).items()):
            if callable(method) and cls.__module__ == __name__ and (name == "__init__" or name[0] != "_"):
                setattr(cls, name, _told(name, method))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.settable:
            self.trt.record(self, "=" + name, (value,), {})
        elif not name.startswith("_") and type(self).__module__ == __name__ and name not in ("trt", "module"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, value)


def _told(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Recorded, *arguments: Any, **keywords: Any) -> Any:
        if name != "__init__" or type(self).__name__ in MADE_BY_NAME:
            self.trt.record(self, name, arguments, keywords)
        return method(self, *arguments, **keywords)

    return call


class ILogger(Recorded):
    pass


class IProgressMonitor(Recorded):
    pass


class IHostMemory(bytearray):
    """A buffer, as TensorRT's host memory is."""


class Builder(Recorded):
    def __init__(self, logger: Any) -> None:
        if "driver" in self.trt.fails:
            logger.log(self.module.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    def create_network(self, flags: int = 0) -> Any:
        assert flags >> int(self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED) & 1, (
            "only strongly typed networks"
        )
        return self.module.INetworkDefinition()

    def create_builder_config(self) -> Any:
        return self.module.IBuilderConfig()

    def build_serialized_network(self, network: Any, config: Any) -> IHostMemory | None:
        self.trt.builds += 1
        monitor, cache = config.progress_monitor, config._cache
        self.trt.during_build()
        for name, parent, steps in PHASES:
            monitor.phase_start(name, parent, steps)
        for name, _, steps in reversed(PHASES):
            for step in range(steps):
                cache._timed += b"+"
                if not monitor.step_complete(name, step):
                    return None
            monitor.phase_finish(name)
        if "build" in self.trt.fails:
            network._logger.log(self.module.ILogger.Severity.ERROR, "Error Code 10: no implementation for node Conv_3")
            return None
        head = {"version": self.trt.version, "host_code": "VERSION_COMPATIBLE" in config._flags}
        return IHostMemory(json.dumps(head).encode() + b"\n" + network._model)


class INetworkDefinition(Recorded):
    pass


class ParserError:
    def node(self) -> int:
        return 3

    def node_name(self) -> str:
        return "node_gelu_3"

    def node_operator(self) -> str:
        return "Gelu"

    def desc(self) -> str:
        return "no importer registered for op: Gelu"


class OnnxParser(Recorded):
    def __init__(self, network: Any, logger: Any) -> None:
        self._network, self._errors = network, []
        network._logger = logger

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def set_flag(self, flag: Any) -> None:
        assert isinstance(flag, self.module.OnnxParserFlag)

    def parse(self, model: bytes) -> bool:
        if "parse" in self.trt.fails:
            self._errors.append(ParserError())
            return False
        onnx.load_model_from_string(model)
        self._network._model = model
        return True


class ITimingCache(Recorded):
    def __init__(self, version: str, timed: bytes) -> None:
        self._version, self._timed = version, timed

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._version.encode() + b"|" + self._timed)


class IBuilderConfig(Recorded):
    settable = ("builder_optimization_level", "profiling_verbosity", "hardware_compatibility_level", "progress_monitor")

    def __init__(self) -> None:
        self._flags: set[str] = {"TF32"}
        self._cache: Any = None

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        assert isinstance(pool, self.module.MemoryPoolType)
        assert pool_size >= 0

    def set_flag(self, flag: Any) -> None:
        self._flags.add(self.module.BuilderFlag(flag).name)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(self.module.BuilderFlag(flag).name)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        version, bar, timed = bytes(serialized_timing_cache).partition(b"|")
        if "empty timing" in self.trt.fails or (serialized_timing_cache and not bar):
            return None
        return _bound(ITimingCache, self.trt, self.module)(version.decode() or self.trt.version, timed)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache._version != self.trt.version and not ignore_mismatch:
            return False
        self._cache = cache
        return True


class Runtime(Recorded):
    settable = ("engine_host_code_allowed",)

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        object.__setattr__(self, "engine_host_code_allowed", False)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        head, _, model = bytes(serialized_engine).partition(b"\n")
        found = json.loads(head)
        error = self.module.ILogger.Severity.ERROR
        if found["version"] != self.trt.version:
            self._logger.log(error, f"The engine plan file is of version {found['version']}, not {self.trt.version}")
            return None
        if found["host_code"] and not self.engine_host_code_allowed:
            self._logger.log(error, "Cannot deserialize engine with lean runtime: host code is not allowed")
            return None
        return _bound(ICudaEngine, self.trt, self.module)(model)


class ICudaEngine(Recorded):
    def __init__(self, model: bytes) -> None:
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._tensors = {t.name: t for t in (*self._session.get_inputs(), *self._session.get_outputs())}

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def num_layers(self) -> int:
        return 7

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        types = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF"}
        return self.module.DataType[types[self._tensors[name].type]]

    def get_tensor_location(self, name: str) -> Any:
        return self.module.TensorLocation.DEVICE

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def create_execution_context(self) -> Any:
        self.trt.cuda.need_context()
        if "context" in self.trt.fails:
            return None
        return _bound(IExecutionContext, self.trt, self.module)(self)


class IExecutionContext(Recorded):
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine, self._places = engine, dict[str, int]()

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._places[name] = memory
        return "address" not in self.trt.fails

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == STREAM
        places, session = dict(self._places), self._engine._session
        if places.keys() != self._engine._tensors.keys():
            return False
        self.trt.cuda.put(lambda: _run(session, places, self.trt.cuda))
        return True


def _run(session: Any, places: dict[str, int], cuda: Cuda) -> None:
    def memory(tensor: Any) -> Any:
        size = int(np.prod(tensor.shape)) * 4
        return cuda.at(places[tensor.name], size).view(np.float32).reshape(tensor.shape)

    outputs = session.get_outputs()
    found = session.run(None, {t.name: memory(t).copy() for t in session.get_inputs()})
    for tensor, value in zip(outputs, found, strict=True):
        memory(tensor)[...] = value
