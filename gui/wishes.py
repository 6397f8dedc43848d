"""The thread on which wishes are fulfilled one after the other: whatever may take longer than a moment runs here."""

import queue
import threading
from collections.abc import Callable

Job = Callable[[], None]
PATIENCE_S = 10.0


class Wishes:
    """Jobs in the order they came, on a thread of their own; what one of them raises is handed to `failed` there."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="engine wishes", daemon=True)
        self._thread.start()

    def later(self, job: Job) -> None:
        """Any thread."""
        self._jobs.put(job)

    def close(self) -> bool:
        """Fulfils what was wished until now and ends; True if that took no longer than ten seconds."""
        self._jobs.put(None)
        self._thread.join(timeout=PATIENCE_S)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:
                self._failed(error)
