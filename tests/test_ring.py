"""The bridge from the sound card's thread: nothing is lost without being counted, whatever the sizes and speeds."""

import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audio.ring import Ring


def ramp(start: int, count: int, channels: int = 1) -> np.ndarray:
    return np.repeat(np.arange(start, start + count, dtype=np.float32)[:, None], channels, axis=1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60), st.integers(40, 100), st.integers(1, 2))
def test_what_is_read_is_what_was_written_less_what_is_counted_as_lost(
    steps: list[tuple[int, bool]], capacity: int, channels: int
) -> None:
    ring = Ring(capacity, channels)
    written = expected = 0
    for count, look in steps:
        ring.write(ramp(written, count, channels))
        written += count
        if look:
            lost, block = ring.read()
            assert lost == max(0, written - expected - capacity), "the oldest are overwritten, and only those"
            assert np.array_equal(block, ramp(expected + lost, written - expected - lost, channels))
            expected = written
    assert ring.written_frames == written
    assert ring.waiting_frames() == written - expected


def test_overruns_add_up_and_the_newest_is_kept() -> None:
    ring = Ring(100)
    for start in range(0, 250, 50):
        ring.write(ramp(start, 50))
    lost, block = ring.read()
    assert (lost, ring.overrun_frames) == (150, 150)
    assert block[-1, 0] == 249


def test_a_stamp_belongs_to_its_frames() -> None:
    ring = Ring(100)
    ring.write(ramp(0, 10))
    first = ring.stamp()
    ring.write(ramp(10, 10))
    second = ring.stamp()
    assert (first.frames, second.frames) == (10, 20)
    assert second.at_s >= first.at_s > 0
    lost, block = ring.read(first.frames)
    assert (lost, len(block)) == (0, 10), "reading may stop where a stamp was taken"


def test_a_sound_card_reads_in_place_and_gets_silence_for_what_is_missing() -> None:
    ring = Ring(50)
    ring.write(ramp(1, 30))
    out = np.full((20, 1), 9, np.float32)
    assert ring.read_into(out) == 20
    assert np.array_equal(out, ramp(1, 20))
    ring.write(ramp(31, 25))
    out = np.full((40, 1), 9, np.float32)
    assert ring.read_into(out) == 35
    assert np.array_equal(out[:35], ramp(21, 35))
    assert not out[35:].any()


def test_two_threads_at_full_speed_never_tear_a_block() -> None:
    """The writer laps the reader again and again; every block that is read must still be one unbroken ramp."""
    ring, total = Ring(4096), 400_000
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def write() -> None:
        for start in range(0, total, 160):
            ring.write(ramp(start, 160))

    writer = threading.Thread(target=write)
    writer.start()
    expected = lost_in_all = 0
    try:
        while expected < total:
            lost, block = ring.read()
            if len(block):
                assert block[0, 0] == expected + lost
                assert np.array_equal(block, ramp(expected + lost, len(block)))
            expected += lost + len(block)
            lost_in_all += lost
    finally:
        writer.join()
        sys.setswitchinterval(before)
    assert ring.overrun_frames == lost_in_all


def test_impossible_rings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        Ring(0)
