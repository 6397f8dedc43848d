"""One ONNX graph becomes one TensorRT plan: the network, the builder's configuration, its timing cache, and its reasons.

Networks are strongly typed: precision is what the graph says, TensorRT only chooses kernels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.backends.plans import Precision
from engine.backends.tensorrt import make_log
from engine.errors import BackendError
from export.progress import BuildProgress, watch

if TYPE_CHECKING:
    import tensorrt as trt

HardwareCompat = Literal["none", "same-cc", "ampere+"]


@dataclass(frozen=True)
class BuildOptions:
    """How plans are built; all of it is part of a plan's key. `speech`: sound that conversions choose scales by."""

    precision: Precision = "fp16"
    workspace_bytes: int = 2 << 30
    opt_level: int = 3
    hardware_compat: HardwareCompat = "none"
    version_compatible: bool = False
    speech: Path | None = None


def build_serialized(
    model: bytes, options: BuildOptions, file: str, timing: bytes, progress: BuildProgress
) -> tuple[bytes, bytes]:
    """One graph -> (plan, timing cache). Raises `BackendError` with the parser's or builder's reasons, or that it
    was cancelled.
    """
    import tensorrt as trt

    log, lines = make_log()
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # its bindings raise this where TensorRT answers nothing
        raise BackendError(
            f"TensorRT cannot start its builder ({'; '.join(lines) or error}); check the NVIDIA driver with nvidia-smi"
        ) from None
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if options.version_compatible:  # the plugin for instance norms is not part of the small runtime such plans carry
        parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)
    if not parser.parse(model):
        raise BackendError(f"TensorRT cannot read {file}: {parser_reasons(parser) or '; '.join(lines)}")
    config = configure(builder, options)
    cache = start_timing(config, timing)
    monitor = watch(progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    kept = cache.serialize()
    timed = _as_bytes(kept) if kept is not None else b""
    if progress.cancelled:
        raise BuildCancelled(f"cancelled while building {file}", timed)
    if plan is None:
        raise BackendError(f"TensorRT cannot build {file}: {'; '.join(lines[-4:]) or 'no reason given'}")
    return _as_bytes(plan), timed


def _as_bytes(memory: Any) -> bytes:
    """TensorRT's host memory (a buffer) as bytes of our own."""
    return bytes(memoryview(memory))


class BuildCancelled(BackendError):
    """A build was stopped by the user; `timing` is the timing cache up to then."""

    def __init__(self, message: str, timing: bytes) -> None:
        super().__init__(message)
        self.timing = timing


def configure(builder: "trt.Builder", options: BuildOptions) -> "trt.IBuilderConfig":
    """The builder's configuration for `options`."""
    import tensorrt as trt

    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.builder_optimization_level = options.opt_level
    config.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY
    if options.precision == "fp32":  # else tensor cores would round the mantissas of fp32 to 10 bits
        config.clear_flag(trt.BuilderFlag.TF32)
    levels = {
        "none": trt.HardwareCompatibilityLevel.NONE,
        "same-cc": trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY,
        "ampere+": trt.HardwareCompatibilityLevel.AMPERE_PLUS,
    }
    config.hardware_compatibility_level = levels[options.hardware_compat]
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    return config


def start_timing(config: "trt.IBuilderConfig", timing: bytes) -> "trt.ITimingCache":
    """Gives the builder the timing cache; one that TensorRT does not take (another version, damaged) is begun anew."""
    for data in (timing, b"") if timing else (b"",):
        cache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    raise BackendError("TensorRT does not take even an empty timing cache; reinstall TensorRT")


def parser_reasons(parser: "trt.OnnxParser") -> str:
    """What the parser did not like, by node: name, operator and reason."""
    reasons = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        reasons.append(f"node {error.node_name() or error.node()} ({error.node_operator()}): {error.desc()}")
    return "; ".join(reasons)
