"""A place for one thing: the newest. Writers never wait, readers never queue."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Slot(Generic[T]):
    """Latest wins. One writing thread calls `put`, one reading thread calls `take`; `peek` is for any thread.

    The pair (number, thing) is replaced in one assignment, so a reader sees a whole pair, old or new.
    """

    def __init__(self) -> None:
        self._held: tuple[int, T | None] = (0, None)
        self._taken = 0
        self.overwritten = 0

    def put(self, thing: T) -> None:
        """Replaces what is held; a thing nobody took is counted as overwritten."""
        number = self._held[0]
        if number > self._taken:
            self.overwritten += 1
        self._held = (number + 1, thing)

    def take(self) -> T | None:
        """The newest thing if it has not been taken yet, else None."""
        number, thing = self._held
        if number <= self._taken:
            return None
        self._taken = number
        return thing

    def peek(self) -> T | None:
        """The newest thing ever put, taken or not; None before the first."""
        return self._held[1]
