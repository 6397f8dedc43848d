"""What export.bench found: as JSON, as a table, and as a chart."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from engine.errors import BackendError
from engine.manifest import FPS
from export.bench_batch import HOPS_A_FRAME, BatchRow

REFERENCE = "onnxruntime"
PARTS = ("encoder", "decoder", "compositing")  # those that make up a frame
WHOLE, NEWEST = "end to end", "newest sample"  # measured together, over the same frames
STAGES = (*PARTS, WHOLE, NEWEST)


@dataclass
class Result:
    """Figures of one back end; times in milliseconds. `ratio`: how many times as fast as ONNX Runtime's median on the
    CPU.
    """

    backend: str
    device: str = ""
    start_ms: float = 0.0
    memory_mb: float = 0.0
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    microphone_to_frame_ms: dict[str, float] = field(default_factory=dict)
    frames_per_second: float = 0.0
    times_real_time: float = 0.0
    unavailable: str = ""


def ratios(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """By back end and figure: that of ONNX Runtime on the CPU over that of the back end, medians; above 1 is faster, for
    memory smaller. A figure that is nothing on either side is left out.
    """
    reference = next(r for r in results if r.backend == REFERENCE)
    if reference.unavailable:
        return {}
    own, found = _figures(reference), {}
    for r in results:
        if not r.unavailable:
            here = _figures(r)
            found[r.backend] = {name: round(own[name] / here[name], 2) for name in own if own[name] and here[name]}
    return found


def _figures(r: Result) -> dict[str, float]:
    stages = {stage: r.stages[stage]["p50"] for stage in STAGES}
    return {
        **stages,
        "microphone to frame": r.microphone_to_frame_ms["p50"],
        "start": r.start_ms,
        "memory": r.memory_mb,
    }


def machine() -> dict[str, Any]:
    """What the figures were taken on, and how busy it was."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "load": load,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def print_table(results: Sequence[Result], console: Console) -> None:
    against = ratios(results)
    table = Table("back end", "stage", "p50 ms", "p95 ms", "p99 ms", "× ORT CPU", caption=_caption())
    for r in results:
        if r.unavailable:
            table.add_row(r.backend, "[dim]not here[/dim]", "", "", "", "", end_section=True)
            console.print(f"{r.backend}: {r.unavailable}", style="dim", highlight=False)
            continue
        for stage in STAGES:
            t = r.stages[stage]
            ratio = against.get(r.backend, {}).get(stage)
            cells = (f"{t['p50']:.2f}", f"{t['p95']:.2f}", f"{t['p99']:.2f}", f"{ratio:.2f}" if ratio else "")
            table.add_row(r.backend if stage == STAGES[0] else "", stage, *cells, end_section=stage == STAGES[-1])
    console.print(table)
    for r in results:
        if not r.unavailable:
            speed = f"{r.frames_per_second:.0f} frames/s ({r.times_real_time:.1f} × real time)"
            m = r.microphone_to_frame_ms
            latency = f"microphone to frame {m['p50']:.0f} ms (p99 {m['p99']:.0f})"
            console.print(
                f"{r.device}: {speed}, {latency}, start {r.start_ms:.0f} ms, {r.memory_mb:.0f} MB", highlight=False
            )


def _caption() -> str:
    facts = machine()
    return (
        f"{facts['cpu']}, {facts['cores']} cores, load "
        f"{facts['load'] if facts['load'] is None else round(facts['load'], 1)}"
    )


def draw_chart(results: Sequence[Result], path: Path) -> None:
    """Bars of the median of each stage; the encoder's is that of the 3.33 hops of a frame. Needs matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise BackendError(
            f"a chart needs matplotlib ({error}); pip install matplotlib, or leave out --chart"
        ) from None
    there = [r for r in results if not r.unavailable]
    figure, axes = pyplot.subplots(figsize=(7, 0.8 + 0.6 * len(there)), layout="constrained")
    left = np.zeros(len(there))
    for stage, share in zip(PARTS, (HOPS_A_FRAME, 1.0, 1.0)):
        width = np.array([r.stages[stage]["p50"] * share for r in there])
        axes.barh([r.backend for r in there], width, left=left, label=stage)
        left += width
    axes.axvline(1000 / FPS, color="0.4", linestyle="--", linewidth=1, label="a frame at 30 fps")
    axes.set_xlabel("milliseconds a frame, medians")
    axes.invert_yaxis()
    axes.legend(loc="best", frameon=False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def as_json(results: Sequence[Result], batches: Sequence[BatchRow]) -> Mapping[str, Any]:
    return {
        "machine": machine(),
        "results": [asdict(r) for r in results],
        "ratios_to_onnxruntime_cpu": ratios(results),
        "batches": [asdict(row) for row in batches],
    }
