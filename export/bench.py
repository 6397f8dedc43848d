"""How fast is this pack here? Every back end against ONNX Runtime on the CPU, in the same run.

    python -m export.bench cast.avatar
    python -m export.bench cast.avatar --backends openvino,onnxruntime --json --chart speed.png

Stages: one hop of the encoder, one frame of the decoder, compositing of the layers, and end to end: the sound of one
frame goes in (3 or 4 hops), the finished RGBA comes out. "Newest sample": from the hop that makes a frame due to its RGBA,
as it is in use, where the hops before have long been heard. Microphone to frame adds what the frame is behind its newest
sound by design, the pack's look-ahead; the sound card before and the screen after are not in it. Back ends take turns in
short rounds, so that a machine that is busy or slows down with heat does so for all of them.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import tyro
from numpy.typing import NDArray
from rich.console import Console

from engine.animator import Animator
from engine.avatar import Avatar, open_avatar
from engine.backends import BACKENDS, load_graphs
from engine.backends.batched import LARGEST
from engine.controls import Controls
from engine.errors import BackendError, MouthpieceError
from engine.layers import LayersPainter
from engine.manifest import FPS, RATE, LayersPicture
from export.bench_batch import SIZES, measure_batches, print_batches
from export.bench_report import NEWEST, PARTS, REFERENCE, STAGES, WHOLE, Result, as_json, draw_chart, print_table
from export.signals import random_inputs, speech_like

ROUNDS = 8


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
        self.forget()

    def forget(self) -> None:
        """Drops what was measured."""
        self.times: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self.from_microphone: list[float] = []

    def _painter(self, avatar: Avatar) -> Callable[[], object]:
        picture = avatar.manifest.picture
        if not isinstance(picture, LayersPicture):
            return lambda: None
        painter = LayersPainter(avatar.person().stills, picture.face_box, picture.patches)
        _, layers = self.decoder.step(self.decoder.initial(), self.fresh)
        kept = {name: value.copy() for name, value in layers.items()}
        return lambda: painter.paint(kept)

    def stage(self, name: str) -> Callable[[], object]:
        return {"encoder": self._hop, "decoder": self._frame, "compositing": self.draw}[name]

    def _hop(self) -> None:
        self.hop = (self.hop + 1) % len(self.hops)
        self.state, _ = self.encoder.step(self.state, {"samples": self.hops[self.hop : self.hop + 1]})

    def _frame(self) -> None:
        self.decoder.step(self.decoder.initial(), self.fresh)

    def _whole(self) -> None:
        """One frame from its sound, hop by hop as it comes from a microphone."""
        began = newest = time.perf_counter()
        while not self.animator.frames_due():
            self.hop = (self.hop + 1) % len(self.hops)
            newest = time.perf_counter()
            self.animator.push(self.hops[self.hop])
        frame = self.animator.next_frame(Controls())
        ended = time.perf_counter()
        self.times[WHOLE].append((ended - began) * 1000)
        self.times[NEWEST].append((ended - newest) * 1000)
        behind_s = float(Fraction(frame.newest_sample, RATE) - frame.time)
        self.from_microphone.append((behind_s + ended - newest) * 1000)

    def measure(self, count: int) -> None:
        """Runs every stage `count` times and keeps the times."""
        for stage in PARTS:
            work = self.stage(stage)
            for _ in range(count):
                began = time.perf_counter()
                work()
                self.times[stage].append((time.perf_counter() - began) * 1000)
        for _ in range(count):
            self._whole()

    def result(self, name: str) -> Result:
        stages = {stage: percentiles(np.array(times)) for stage, times in self.times.items()}
        rate = 1000 / float(np.mean(self.times[WHOLE]))
        start, memory = round(self.start_ms, 1), round(self.memory_mb, 1)
        latency = percentiles(np.array(self.from_microphone))
        return Result(name, self.decoder.device, start, memory, stages, latency, round(rate, 1), round(rate / FPS, 2))

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
            subject.forget()
        for _ in range(ROUNDS):
            for subject in subjects.values():
                subject.measure(max(1, frames // ROUNDS))
        results |= {name: subject.result(name) for name, subject in subjects.items()}
    finally:
        for subject in subjects.values():
            subject.close()
    return [results[name] for name in wanted]


def _resident_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


def parse_sizes(text: str) -> list[int]:
    """ "1,2,4" -> numbers. Raises `BackendError`."""
    try:
        sizes = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        sizes = [0]
    if any(not 1 <= size <= LARGEST for size in sizes):
        raise BackendError(f"--batches: expected numbers from 1 to {LARGEST} with commas between, found {text!r}")
    return sizes


def main(
    avatar: tyro.conf.Positional[Path],
    /,
    *,
    backends: str = "auto",
    frames: int = 160,
    threads: int = 0,
    batches: str = ",".join(map(str, SIZES)),
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
    chart: Path | None = None,
) -> None:
    """Measures a pack on the back ends of this machine.

    Args:
        avatar: The pack.
        backends: Comma-separated names, or auto for every back end there is.
        frames: Times that each stage is run.
        threads: Threads for back ends on the CPU; 0 leaves it to them.
        batches: Comma-separated numbers of avatars that share a call; empty to leave this out.
        json_: Print JSON instead of a table.
        chart: Also draw the medians into this picture.
    """
    names = list(BACKENDS) if backends == "auto" else [name.strip() for name in backends.split(",")]
    try:
        if unknown := [name for name in names if name not in BACKENDS]:
            raise BackendError(f"back end {', '.join(unknown)} is unknown; choose auto, {', '.join(BACKENDS)}")
        if frames < 1:
            raise BackendError(f"--frames must be at least 1, found {frames}")
        sizes = parse_sizes(batches)
        pack = open_avatar(avatar)
        results = measure(pack, names, frames, threads)
        rows = measure_batches(pack, [r.backend for r in results if not r.unavailable], sizes, threads)
        if chart:
            draw_chart(results, chart)
    except (OSError, MouthpieceError) as error:
        sys.exit(f"error: {error}")
    if json_:
        print(json.dumps(as_json(results, rows), indent=1))
    else:
        print_table(results, Console())
        print_batches(rows, Console())


if __name__ == "__main__":
    tyro.cli(main)
