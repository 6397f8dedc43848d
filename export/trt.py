"""Builds TensorRT plans of a pack's graphs for the GPU in this machine, into the user's own cache.

    python -m export.trt cast.avatar --precision fp16
    python -m export.trt --list

Networks are strongly typed: the precision is the ONNX graph's (export/precision.py, export/quantize.py), TensorRT
only chooses kernels. A build may be stopped with Ctrl-C at any time; what was timed until then is kept and makes
the next build shorter.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from engine.avatar import Avatar, open_avatar
from engine.backends.cuda import CudaDevice
from engine.backends.plans import PlanCache, PlanKey, PlanMissing, PlanRefused, Precision
from engine.backends.tensorrt import TensorRtGraph, make_log, plan_key, tensorrt_version
from engine.errors import BackendError, MouthpieceError
from export.progress import BuildProgress, RichProgress, progress_lines, watch

if TYPE_CHECKING:
    import tensorrt as trt

ROLES = ("audio_encoder", "frame_decoder")
HardwareCompat = Literal["none", "same-cc", "ampere+"]
Convert = Callable[[Avatar, str, Precision], bytes]
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class BuildOptions:
    """How plans are built; all of it is part of a plan's key."""

    precision: Precision = "fp16"
    workspace_bytes: int = 2 << 30
    opt_level: int = 3
    hardware_compat: HardwareCompat = "none"
    version_compatible: bool = False


@dataclass(frozen=True)
class Built:
    """A plan that stands in the cache; `reused` if it stood there before."""

    role: str
    path: Path
    size_bytes: int
    seconds: float
    layers: int
    precision: str
    latency_ms: float
    reused: bool


def parse_size(text: str) -> int:
    """ "2G", "512M" -> bytes. Raises `BackendError`."""
    unit = _UNITS.get(text[-1:].upper(), 0)
    try:
        value = float(text[:-1] if unit else text) * (unit or 1)
    except ValueError:
        value = 0
    if not 1 << 20 <= value <= 1 << 40:
        raise BackendError(f"--workspace: expected a size such as 512M or 2G, found {text!r}")
    return int(value)


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


def convert(avatar: Avatar, role: str, precision: Precision) -> bytes:
    """The pack's graph in another precision; only fp32 needs nothing but the pack."""
    if precision == "fp32":
        return avatar.graph(role)[0]
    from export.convert import converted

    return converted(avatar, role, precision)


class PlanBuilder:
    """Builds the plans of packs on one GPU. All work is done on the calling thread."""

    def __init__(
        self, device: CudaDevice, cache: PlanCache, options: BuildOptions, conversion: Convert = convert
    ) -> None:
        self.device, self.cache, self.options, self._convert = device, cache, options, conversion
        self._version = tensorrt_version()

    def key(self, model: bytes) -> PlanKey:
        o = self.options
        more = {"hardware_compat": o.hardware_compat, "version_compatible": o.version_compatible}
        sizes = {"workspace_bytes": o.workspace_bytes, "opt_level": o.opt_level}
        return plan_key(model, o.precision, self._version, self.device.gpu, **more, **sizes)  # type: ignore[arg-type]

    def build(self, avatar: Avatar, role: str, progress: BuildProgress, force: bool = False) -> Built:
        """The plan of one graph: from the cache if it is there and whole, else built, sealed, and measured."""
        model, _ = avatar.graph(role)
        key = self.key(model)
        with self.cache.building(key, lambda: not progress.cancelled):
            if not force and (found := self._cached(key, role)):
                return found
            began = time.perf_counter()
            plan = self._build(avatar, role, key, progress)
            seconds = time.perf_counter() - began
            facts: dict[str, Any] = {
                "role": role,
                "pack": avatar.name,
                "built": time.time(),
                "seconds": round(seconds, 1),
            }
            facts |= self._measure(avatar, role, plan)
            path = self.cache.write(key, plan, facts)
        return Built(role, path, len(plan), seconds, facts["layers"], key.precision, facts["latency_ms"], False)

    def _cached(self, key: PlanKey, role: str) -> Built | None:
        try:
            sealed = self.cache.read(key)
        except PlanMissing:
            return None
        except PlanRefused as error:
            print(f"{error}; building again", file=sys.stderr)
            return None
        facts = sealed.header["facts"]
        size = len(sealed.payload)
        return Built(
            role, sealed.path, size, facts["seconds"], facts["layers"], key.precision, facts["latency_ms"], True
        )

    def _build(self, avatar: Avatar, role: str, key: PlanKey, progress: BuildProgress) -> bytes:
        name = f"trt{key.tensorrt}-cc{key.compute_capability}"
        try:
            timing = self.cache.read_timing(name)
        except PlanRefused as error:
            print(f"{error}; timing anew", file=sys.stderr)
            timing = b""
        converted = self._convert(avatar, role, self.options.precision)
        try:
            with self.device.current():
                plan, timed = build_serialized(converted, self.options, f"{role}.onnx", timing, progress)
        except BuildCancelled as error:
            self.cache.write_timing(name, error.timing)
            raise
        self.cache.write_timing(name, timed)
        return plan

    def _measure(self, avatar: Avatar, role: str, plan: bytes) -> dict[str, Any]:
        """Loads the plan once, which also proves that it runs: number of layers and median latency."""
        _, spec = avatar.graph(role)
        graph = TensorRtGraph(self.device, plan, spec, "TensorRT", host_code=self.options.version_compatible)
        try:
            graph.latencies_ms(10)
            return {"layers": graph.layers, "latency_ms": round(float(np.median(graph.latencies_ms(50))), 4)}
        finally:
            graph.close()


def build_all(
    avatar: Avatar, builder: PlanBuilder, progress: BuildProgress, force: bool, report: Callable[[Built], None]
) -> None:
    """Builds every graph on a thread of its own, so that Ctrl-C reaches this one; cancels the build and raises then."""
    failure: list[BaseException] = []

    def work() -> None:
        try:
            for number, role in enumerate(ROLES):
                progress.part(role, number, len(ROLES))
                report(builder.build(avatar, role, progress, force))
        except BaseException as error:  # handed to the thread that waits
            failure.append(error)

    thread = threading.Thread(target=work, name="plan-builder")
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
    except KeyboardInterrupt:
        progress.cancel()
        thread.join()
    if failure:
        raise failure[0]


def print_built(built: Built, console: Console) -> None:
    state = "in the cache" if built.reused else f"built in {built.seconds:.0f} s"
    facts = f"{built.size_bytes / 2**20:.1f} MB, {built.layers} layers, {built.precision}, {built.latency_ms:.3f} ms"
    console.print(f"{built.role}: {facts}, {state}", highlight=False)


def print_list(cache: PlanCache, console: Console) -> None:
    table = Table("graph", "pack", "precision", "GPU", "TensorRT", "driver", "MB", "ms", "built")
    for sealed in cache.plans():
        key, facts = sealed.header["key"], sealed.header["facts"]
        built = datetime.fromtimestamp(facts["built"], UTC).isoformat(" ", "minutes")
        size, latency = f"{len(sealed.payload) / 2**20:.1f}", f"{facts['latency_ms']:.3f}"
        who = (facts["role"], facts["pack"], key["precision"], f"{key['gpu']} ({key['compute_capability']})")
        table.add_row(*who, key["tensorrt"], key["driver"], size, latency, built)
    console.print(table)
    for reason in cache.refused():
        console.print(f"refused: {reason}", highlight=False)
    console.print(str(cache.folder), highlight=False)


def main(
    avatar: tyro.conf.Positional[Path | None] = None,
    /,
    *,
    precision: Precision = "fp16",
    workspace: str = "2G",
    opt_level: Literal[0, 1, 2, 3, 4, 5] = 3,
    hardware_compat: HardwareCompat = "none",
    version_compatible: bool = False,
    device: int = 0,
    force: bool = False,
    list_: Annotated[bool, tyro.conf.arg(name="list")] = False,
    clear: bool = False,
    progress_json: bool = False,
) -> None:
    """Builds TensorRT plans of a pack for this machine's GPU.

    Args:
        avatar: The pack.
        precision: What heavy layers compute in.
        workspace: GPU memory that a layer may use while it runs, such as 512M or 2G.
        opt_level: How long TensorRT searches, 0 quick .. 5 thorough.
        hardware_compat: Let the plan run on other GPUs: the same compute capability, or Ampere and newer.
        version_compatible: Let the plan run with newer TensorRT of the same major version.
        device: Which GPU, by its CUDA number.
        force: Build even what is in the cache.
        list_: List the plans in the cache.
        clear: Remove all plans, timing caches and the key that seals them.
        progress_json: Print progress as lines of JSON, for programs.
    """
    console = Console(stderr=True)
    try:
        cache = PlanCache()
        if clear:
            console.print(f"removed {cache.clear()} files from {cache.folder}")
        if list_:
            print_list(cache, Console())
        if avatar is None:
            if not (clear or list_):
                raise BackendError("expected a pack: python -m export.trt AVATAR, or --list, or --clear")
            return
        options = BuildOptions(precision, parse_size(workspace), opt_level, hardware_compat, version_compatible)
        pack = open_avatar(avatar)
        builder = PlanBuilder(CudaDevice(device), cache, options)
        if progress_json:
            build_all(
                pack,
                builder,
                progress_lines(),
                force,
                lambda built: print(json.dumps({"built": built.role}), flush=True),
            )
            return
        with RichProgress(console) as progress:
            build_all(pack, builder, progress, force, lambda built: print_built(built, console))
    except BuildCancelled as error:
        sys.exit(f"{error}; no plan was written")
    except (MouthpieceError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    tyro.cli(main)
