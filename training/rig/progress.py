"""What the corpus commands share: processes on all cores, and a bar that says how far and how much longer."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 60.0


class Bar(Progress):
    """A progress bar; where there is no terminal, as in a log file, a line a minute says the same."""

    _told_s = float("-inf")

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._log(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._log(task_id)

    def _log(self, task_id: TaskID) -> None:
        now_s = time.monotonic()
        if self.console.is_terminal or now_s - self._told_s < LINE_EVERY_S:
            return
        self._told_s = now_s
        task = next(t for t in self.tasks if t.id == task_id)
        left = "" if task.time_remaining is None else f", about {task.time_remaining / 60:.0f} minutes left"
        print(f"{task.description}: {task.completed:.0f} of {task.total or 0:.0f}{left}", flush=True)


def progress_bar() -> Bar:
    """Tasks carry a field `note`, shown at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    remaining = TimeRemainingColumn(elapsed_when_finished=False)
    return Bar(*columns, TextColumn("left"), remaining, TextColumn("{task.fields[note]}"))


def start_workers(count: int, begin: Callable[..., None], arguments: tuple) -> ProcessPoolExecutor:
    """`count` processes (0: one a core), each started with `begin(*arguments)`; one that is killed breaks the pool.

    Spawned, not forked: OpenCV's threads do not survive a fork.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count or os.cpu_count() or 1, context, _begin_worker, (begin, arguments))


def _begin_worker(begin: Callable[..., None], arguments: tuple) -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    begin(*arguments)


def _leave_with_parent() -> None:
    """A parent that is killed cannot end its workers; they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
