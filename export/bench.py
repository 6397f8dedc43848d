"""How fast is this pack here? Every back end against ONNX Runtime on the CPU, in the same run.

    python -m export.bench cast.avatar
    python -m export.bench cast.avatar --backends openvino,onnxruntime --json --chart speed.png

Stages: one hop of the encoder, one frame of the decoder, compositing of the layers, and end to end: the sound of one
frame goes in (3 or 4 hops), the finished RGBA comes out. Back ends take turns in short rounds, so that a machine that
is busy or slows down with heat does so for all of them.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from engine.animator import Animator
from engine.avatar import Avatar, open_avatar
from engine.backends import BACKENDS, load_graphs
from engine.controls import Controls
from engine.errors import BackendError, MouthpieceError
from engine.layers import LayersPainter
from engine.manifest import FPS, HOP_SAMPLES, LayersPicture
from export.signals import random_inputs, speech_like

REFERENCE = "onnxruntime"
STAGES = ("encoder", "decoder", "compositing", "end to end")
ROUNDS = 8


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
    frames_per_second: float = 0.0
    times_real_time: float = 0.0
    unavailable: str = ""


def percentiles(times_ms: NDArray[np.float64]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(times_ms, (50, 95, 99))
    return {
        "p50": round(float(p50), 3),
        "p95": round(float(p95), 3),
        "p99": round(float(p99), 3),
        "count": len(times_ms),
    }


class Subject:
    """One back end under test, loaded, with a closure for each stage that does it once."""

    def __init__(self, avatar: Avatar, backend: str, threads: int) -> None:
        before, began = _resident_mb(), time.perf_counter()
        self.loaded = load_graphs([avatar.graph("audio_encoder"), avatar.graph("frame_decoder")], backend, threads)
        self.encoder, self.decoder = self.loaded.graphs
        person = avatar.person()
        inputs = random_inputs(avatar, person.name, 0)
        self.decoder.bind(person.tensors)
        self.fresh = {name: value for name, value in inputs.items() if name not in person.tensors}
        self.hops = speech_like(400)
        self.state, self.hop = self.encoder.initial(), 0
        self.draw = self._painter(avatar)
        self.stage("decoder")()
        self.start_ms = (time.perf_counter() - began) * 1000
        self.memory_mb = max(0.0, _resident_mb() - before)
        self.animator = Animator(avatar, backend=backend, threads=threads)
        self.times: dict[str, list[float]] = {stage: [] for stage in STAGES}

    def _painter(self, avatar: Avatar) -> Callable[[], object]:
        picture = avatar.manifest.picture
        if not isinstance(picture, LayersPicture):
            return lambda: None
        painter = LayersPainter(avatar.person().stills, picture.face_box, picture.patches)
        _, layers = self.decoder.step(self.decoder.initial(), self.fresh)
        kept = {name: value.copy() for name, value in layers.items()}
        return lambda: painter.paint(kept)

    def stage(self, name: str) -> Callable[[], object]:
        return {"encoder": self._hop, "decoder": self._frame, "compositing": self.draw, "end to end": self._whole}[name]

    def _hop(self) -> None:
        self.hop = (self.hop + 1) % len(self.hops)
        self.state, _ = self.encoder.step(self.state, {"samples": self.hops[self.hop : self.hop + 1]})

    def _frame(self) -> None:
        self.decoder.step(self.decoder.initial(), self.fresh)

    def _whole(self) -> None:
        while not self.animator.frames_due():
            self.hop = (self.hop + 1) % len(self.hops)
            self.animator.push(self.hops[self.hop])
        self.animator.next_frame(Controls())

    def measure(self, count: int) -> None:
        """Runs every stage `count` times and keeps the times."""
        for stage in STAGES:
            work = self.stage(stage)
            for _ in range(count):
                began = time.perf_counter()
                work()
                self.times[stage].append((time.perf_counter() - began) * 1000)

    def result(self, name: str) -> Result:
        stages = {stage: percentiles(np.array(times)) for stage, times in self.times.items()}
        rate = 1000 / float(np.mean(self.times["end to end"]))
        start, memory = round(self.start_ms, 1), round(self.memory_mb, 1)
        return Result(name, self.decoder.device, start, memory, stages, round(rate, 1), round(rate / FPS, 2))

    def close(self) -> None:
        self.animator.close()
        for graph in self.loaded.graphs:
            graph.close()


def measure(avatar: Avatar, backends: Sequence[str], frames: int, threads: int) -> list[Result]:
    """Measures back ends in turns; the reference is always among them. One that cannot run here is reported with its
    reason.
    """
    wanted = list(dict.fromkeys((*backends, REFERENCE)))
    subjects: dict[str, Subject] = {}
    results: dict[str, Result] = {}
    try:
        for name in wanted:
            try:
                subjects[name] = Subject(avatar, name, threads)
            except BackendError as error:
                results[name] = Result(name, unavailable=str(error))
        for subject in subjects.values():
            subject.measure(max(2, frames // 20))
            subject.times = {stage: [] for stage in STAGES}
        for _ in range(ROUNDS):
            for subject in subjects.values():
                subject.measure(max(1, frames // ROUNDS))
        results |= {name: subject.result(name) for name, subject in subjects.items()}
    finally:
        for subject in subjects.values():
            subject.close()
    return [results[name] for name in wanted]


def ratios(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """By back end and stage: median of ONNX Runtime on the CPU over median of the back end; above 1 is faster."""
    reference = next(r for r in results if r.backend == REFERENCE)
    if reference.unavailable:
        return {}
    return {
        r.backend: {s: round(reference.stages[s]["p50"] / max(r.stages[s]["p50"], 1e-6), 2) for s in STAGES}
        for r in results
        if not r.unavailable
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


def _resident_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


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
            console.print(f"{r.device}: {speed}, start {r.start_ms:.0f} ms, {r.memory_mb:.0f} MB", highlight=False)


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
    for stage, share in zip(STAGES[:-1], (16_000 / FPS / HOP_SAMPLES, 1.0, 1.0)):
        width = np.array([r.stages[stage]["p50"] * share for r in there])
        axes.barh([r.backend for r in there], width, left=left, label=stage)
        left += width
    axes.axvline(1000 / FPS, color="0.4", linestyle="--", linewidth=1, label="a frame at 30 fps")
    axes.set_xlabel("milliseconds a frame, medians")
    axes.invert_yaxis()
    axes.legend(loc="best", frameon=False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def as_json(results: Sequence[Result]) -> Mapping[str, Any]:
    return {"machine": machine(), "results": [asdict(r) for r in results], "ratios_to_onnxruntime_cpu": ratios(results)}


def main(
    avatar: tyro.conf.Positional[Path],
    /,
    *,
    backends: str = "auto",
    frames: int = 160,
    threads: int = 0,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
    chart: Path | None = None,
) -> None:
    """Measures a pack on the back ends of this machine.

    Args:
        avatar: The pack.
        backends: Comma-separated names, or auto for every back end there is.
        frames: Times that each stage is run.
        threads: Threads for back ends on the CPU; 0 leaves it to them.
        json_: Print JSON instead of a table.
        chart: Also draw the medians into this picture.
    """
    names = list(BACKENDS) if backends == "auto" else [name.strip() for name in backends.split(",")]
    try:
        if unknown := [name for name in names if name not in BACKENDS]:
            raise BackendError(f"back end {', '.join(unknown)} is unknown; choose auto, {', '.join(BACKENDS)}")
        if frames < 1:
            raise BackendError(f"--frames must be at least 1, found {frames}")
        results = measure(open_avatar(avatar), names, frames, threads)
        if chart:
            draw_chart(results, chart)
    except (OSError, MouthpieceError) as error:
        sys.exit(f"error: {error}")
    if json_:
        print(json.dumps(as_json(results), indent=1))
    else:
        print_table(results, Console())


if __name__ == "__main__":
    tyro.cli(main)
