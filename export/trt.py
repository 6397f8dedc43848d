"""Builds TensorRT plans of a pack's graphs for the GPU in this machine, into the user's own cache.

    python -m export.trt cast.avatar --precision fp16
    python -m export.trt cast.avatar --batch 8          # graphs for eight avatars a call (export/batch.py)
    python -m export.trt cast.avatar --progress-json    # for programs: docs/tensorrt.md, "For programs"
    python -m export.trt --list

A build may be stopped with Ctrl-C at any time; what was timed until then is kept and makes the next build shorter.
"""

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from engine.avatar import Avatar, open_avatar
from engine.backends.base import NotInstalled
from engine.backends.batched import batched_spec
from engine.backends.cuda import CudaDevice
from engine.backends.plans import PlanCache, PlanKey, PlanMissing, PlanRefused, Precision
from engine.backends.tensorrt import TensorRtGraph, plan_key, tensorrt_version
from engine.errors import BackendError, MouthpieceError
from engine.manifest import GraphSpec
from export.progress import BuildProgress, RichProgress, cancel_when_told, progress_lines, say
from export.trt_network import BuildCancelled, BuildOptions, HardwareCompat, build_serialized
from export.trt_report import built_facts, print_built, print_list

ROLES = ("audio_encoder", "frame_decoder")
Convert = Callable[[Avatar, str, Precision, Path | None], bytes]
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


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


def convert(avatar: Avatar, role: str, precision: Precision, speech: Path | None) -> bytes:
    """The pack's graph in another precision; only fp32 needs nothing but the pack."""
    if precision == "fp32":
        return avatar.graph(role)[0]
    with _needed_packages(f"{precision} graphs"):
        from export.convert import converted

        return converted(avatar, role, precision, speech)


def calibration_of(speech: Path | None) -> str:
    """A name for the sound that scales are chosen by: digest of its files' names, sizes and times; empty without."""
    if speech is None:
        return ""
    files = sorted(path for path in speech.rglob("*") if path.is_file())
    facts = [(path.relative_to(speech).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def batched_graph(model: bytes, size: int) -> bytes:
    """The graph for `size` avatars a call."""
    if size == 1:
        return model
    with _needed_packages("graphs for several avatars"):
        from export.batch import batched

        return batched(model, size)


@contextmanager
def _needed_packages(what: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise NotInstalled(
            f"{what} need a package that is not installed ({error}); pip install onnx onnxruntime"
        ) from None


class PlanBuilder:
    """Builds the plans of packs on one GPU, for `batch` avatars a call. All work is done on the calling thread."""

    def __init__(
        self, device: CudaDevice, cache: PlanCache, options: BuildOptions, conversion: Convert = convert, batch: int = 1
    ) -> None:
        self.device, self.cache, self.options, self._convert, self.batch = device, cache, options, conversion, batch
        self._version = tensorrt_version()
        self._calibration = "" if options.precision == "fp32" else calibration_of(options.speech)

    def key(self, model: bytes) -> PlanKey:
        o = self.options
        more: dict[str, object] = {"hardware_compat": o.hardware_compat, "version_compatible": o.version_compatible}
        sizes = {"workspace_bytes": o.workspace_bytes, "opt_level": o.opt_level}
        more["calibration"] = self._calibration
        return plan_key(model, o.precision, self._version, self.device.gpu, **more, **sizes)  # type: ignore[arg-type]

    def build(self, avatar: Avatar, role: str, progress: BuildProgress, force: bool = False) -> Built:
        """The plan of one graph: from the cache if it is there and whole, else built, sealed, and measured."""
        model, spec = avatar.graph(role)
        if self.batch > 1:  # such a graph is another graph: its bytes, and so its digest, are its own
            spec = batched_spec(spec, self.batch)
        key = self.key(batched_graph(model, self.batch))
        with self.cache.building(key, lambda: not progress.cancelled):
            if not force and (found := self._cached(key, role)):
                return found
            began = time.perf_counter()
            plan = self._build(avatar, role, key, progress)
            seconds = time.perf_counter() - began
            facts: dict[str, Any] = {
                "role": role,
                "pack": avatar.name,
                "batch": self.batch,
                "built": time.time(),
                "seconds": round(seconds, 1),
            }
            facts |= self._measure(spec, plan)
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
        converted = batched_graph(self._convert(avatar, role, self.options.precision, self.options.speech), self.batch)
        if progress.cancelled:  # the conversion takes seconds and asks nobody
            raise BuildCancelled(f"cancelled before building {role}.onnx", timing)
        try:
            with self.device.current():
                plan, timed = build_serialized(converted, self.options, f"{role}.onnx", timing, progress)
        except BuildCancelled as error:
            if error.timing:
                self.cache.write_timing(name, error.timing)
            raise
        self.cache.write_timing(name, timed)
        return plan

    def _measure(self, spec: GraphSpec, plan: bytes) -> dict[str, Any]:
        """Loads the plan once, which also proves that it runs: number of layers and median latency."""
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


def main(
    avatar: tyro.conf.Positional[Path | None] = None,
    /,
    *,
    precision: Precision = "fp16",
    workspace: str = "2G",
    opt_level: Literal[0, 1, 2, 3, 4, 5] = 3,
    hardware_compat: HardwareCompat = "none",
    version_compatible: bool = False,
    batch: int = 1,
    speech: Path | None = None,
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
        batch: Build the graphs for so many avatars a call (python -m export.batch), rather than those for one.
        speech: Folder with speech, such as a corpus, to choose int8's scales by; without it a made-up voice serves.
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
        options = BuildOptions(precision, parse_size(workspace), opt_level, hardware_compat, version_compatible, speech)
        pack = open_avatar(avatar)
        tensorrt_version()  # asked first: of all that may be missing, it is what people have to hear of
        with closing(CudaDevice(device)) as gpu:
            builder = PlanBuilder(gpu, cache, options, batch=batch)
            if progress_json:
                lines = progress_lines()
                with cancel_when_told(lines):
                    build_all(pack, builder, lines, force, lambda built: say(built_facts(built)))
                say({"done": True})
                return
            with RichProgress(console) as progress:
                build_all(pack, builder, progress, force, lambda built: print_built(built, console))
    except BuildCancelled as error:
        fail(f"{error}; no plan was written", "cancelled", progress_json)
    except (MouthpieceError, ValueError, OSError) as error:
        fail(f"error: {error}", "not-installed" if isinstance(error, NotInstalled) else "failed", progress_json)


def fail(words: str, kind: str, for_program: bool) -> None:
    """Ends with the reason in one line on stderr; for a program also as the last line of JSON."""
    line = " ".join(words.split())
    if for_program:
        say({"failed": line.removeprefix("error: "), "kind": kind})
    sys.exit(line)


if __name__ == "__main__":
    tyro.cli(main)
