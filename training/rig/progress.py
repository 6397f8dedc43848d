"""What the corpus commands share: processes on all cores, and a bar that says how far and how much longer."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar() -> Progress:
    """Tasks carry a field `note`, shown at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    remaining = TimeRemainingColumn(elapsed_when_finished=False)
    return Progress(*columns, TextColumn("left"), remaining, TextColumn("{task.fields[note]}"))


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
