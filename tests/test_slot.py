"""Latest wins: the reader gets the newest thing once, and what nobody took is counted."""

import threading

from engine.outputs.slot import Slot


def test_the_newest_is_taken_once() -> None:
    slot: Slot[int] = Slot()
    assert slot.take() is None
    assert slot.peek() is None
    slot.put(1)
    slot.put(2)
    assert slot.take() == 2
    assert slot.take() is None
    assert slot.peek() == 2
    assert slot.overwritten == 1


def test_threads_see_things_in_order_and_the_last_one() -> None:
    slot: Slot[int] = Slot()
    total = 50_000
    writer = threading.Thread(target=lambda: [slot.put(n) for n in range(1, total + 1)])
    writer.start()
    seen = [0]
    while seen[-1] < total:
        thing = slot.take()
        if thing is not None:
            assert thing > seen[-1]
            seen.append(thing)
    writer.join()
    assert slot.take() is None
