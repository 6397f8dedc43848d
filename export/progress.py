"""TensorRT's phases as one bar: an `IProgressMonitor` that any thread may call, and what shows it.

TensorRT reports nested phases, each with its own number of steps. The outermost phase counts for the bar; a step of
an inner phase is a share of the outer step it belongs to.
"""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, SupportsInt

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass
class _Phase:
    name: str
    parent: "_Phase | None"
    steps: int
    done: float = 0.0


class BuildProgress:
    """How far a build is, 0..1 over all its graphs. Any thread may call any method."""

    def __init__(self, show: Callable[[float, str], None] = lambda share, what: None) -> None:
        self._show, self._lock = show, threading.Lock()
        self._phases: dict[str, _Phase] = {}
        self._cancelled = threading.Event()
        self._part, self._first, self._parts, self._furthest = "", 0, 1, 0.0

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Asks TensorRT to stop at its next step."""
        self._cancelled.set()

    def part(self, name: str, number: int, parts: int) -> None:
        """Begins one of several builds."""
        with self._lock:
            self._part, self._first, self._parts, self._furthest = name, number, parts, 0.0
            self._phases.clear()
        self._tell()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[name] = _Phase(name, self._phases.get(parent or ""), max(1, steps))
        self._tell()

    def step(self, name: str, step: int) -> bool:
        """Whether to go on."""
        with self._lock:
            if phase := self._phases.get(name):
                phase.done = min(float(step + 1), phase.steps)
        self._tell()
        return not self.cancelled

    def finish(self, name: str) -> None:
        with self._lock:
            if phase := self._phases.pop(name, None):
                phase.done = phase.steps
        self._tell()

    def share(self) -> float:
        """0..1 over all graphs; never goes back within one."""
        with self._lock:
            return self._share()

    def now(self) -> tuple[str, int, int, float]:
        """The graph being built, its number from 1, how many there are, and its own share 0..1."""
        with self._lock:
            self._share()
            return self._part, self._first + 1, self._parts, self._furthest

    def _share(self) -> float:
        roots = [phase for phase in self._phases.values() if phase.parent is None]
        here = max((self._done(root) for root in roots), default=0.0)
        self._furthest = max(self._furthest, min(here, 1.0))
        return (self._first + self._furthest) / self._parts

    def _done(self, phase: _Phase) -> float:
        inner = [self._done(child) for child in self._phases.values() if child.parent is phase]
        under_way = max(inner, default=0.0) if phase.done < phase.steps else 0.0
        return min(1.0, (phase.done + under_way) / phase.steps)

    def _tell(self) -> None:
        with self._lock:
            innermost = next(reversed(self._phases), "")
            share, what = self._share(), f"{self._part}: {innermost}" if innermost else self._part
        self._show(share, what)


def watch(progress: BuildProgress) -> "trt.IProgressMonitor":
    """The monitor that TensorRT calls, from threads of its own."""
    import tensorrt as trt

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # Any where TensorRT's stubs are not installed
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: SupportsInt) -> None:
            progress.start(phase_name, parent_phase, int(num_steps))

        def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
            return progress.step(phase_name, int(step))

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()


def say(facts: Mapping[str, Any]) -> None:
    """One line of JSON on stdout, at once. Raises `OSError` when nobody reads any more."""
    print(json.dumps(facts), flush=True)


def progress_lines() -> BuildProgress:
    """Progress for a program that reads our output: a line of JSON whenever a percent is gained or the phase
    changes. Nobody reading any more cancels.
    """
    last: list[tuple[int, str]] = [(-1, "")]

    def show(share: float, what: str) -> None:
        now = (int(share * 100), what)
        if now == last[0]:
            return
        last[0] = now
        graph, number, parts, done = progress.now()
        facts = {"graph": graph, "number": number, "of": parts, "graph_share": round(done, 3)}
        try:
            say({"share": round(share, 3), "phase": what, **facts})
        except OSError:  # this may be a thread of TensorRT's, which no exception may reach
            progress.cancel()

    progress = BuildProgress(show)
    return progress


@contextmanager
def cancel_when_told(progress: BuildProgress) -> Iterator[None]:
    """Cancels at a line `cancel` on stdin, at SIGTERM and at SIGINT (Ctrl-C), which a parent may have told us to ignore."""

    def listen() -> None:
        heard = b""
        with suppress(OSError, ValueError):  # no stdin
            while more := os.read(0, 64):
                heard += more
                if b"cancel" in heard.split():
                    progress.cancel()
                heard = heard[-64:]

    # Never joined: a read of stdin cannot be interrupted. It goes through no buffer that the interpreter locks at its end.
    threading.Thread(target=listen, name="told-to-cancel", daemon=True).start()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: progress.cancel()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class RichProgress(BuildProgress):
    """Progress as a bar on the console, for the length of a `with`."""

    def __init__(self, console: Console) -> None:
        columns = (
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._task: TaskID = self._bar.add_task("starting", total=1.0)
        super().__init__(lambda share, what: self._bar.update(self._task, completed=share, description=what))

    def __enter__(self) -> "RichProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
