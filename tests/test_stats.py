"""Percentiles in bounded memory are right, and the counters of a session say what happened."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.stats import EVENTS_KEPT, EventLog, Histogram, Memory, RateMeter


@given(st.lists(st.floats(0.02, 60_000), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_percentiles_are_within_a_bin(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = float(np.quantile(values, share, method="inverted_cdf"))
    assert histogram.quantile(share) == pytest.approx(exact, rel=0.017)


def test_any_length_of_time_takes_the_same_memory() -> None:
    histogram = Histogram()
    for value in np.random.default_rng(0).lognormal(3, 0.4, 20_000):
        histogram.add(float(value))
    assert histogram._counts.nbytes < 10_000
    summary = histogram.summary()
    assert summary["p50"] == pytest.approx(np.e**3, rel=0.03)
    assert summary["p50"] < summary["p95"] < summary["p99"] < summary["max"]


def test_strange_durations_do_no_harm() -> None:
    histogram = Histogram()
    assert histogram.quantile(0.5) == 0.0
    for value in (-1.0, 0.0, float("nan"), 1e9):
        histogram.add(value)
    assert histogram.count == 4
    assert histogram.quantile(0.5) == 0.0


def test_a_rate_falls_when_nothing_happens_any_more() -> None:
    meter = RateMeter()
    for number in range(90):
        meter.tick(number / 30)
    now_s = 89 / 30
    assert meter.per_second(now_s) == pytest.approx(30.0)
    assert meter.per_second(now_s + 3.0) < 16.0


def test_events_are_bounded_and_counted() -> None:
    log = EventLog()
    for number in range(EVENTS_KEPT + 50):
        log.add(float(number), "microphone lost", "gone")
    assert len(log.newest()) == EVENTS_KEPT
    assert log.newest(1)[0].at_s == EVENTS_KEPT + 49
    assert log.counts() == {"microphone lost": EVENTS_KEPT + 50}


def test_memory_of_the_first_and_of_the_last_minute() -> None:
    memory = Memory()
    for _ in range(3):
        memory.sample()
    summary = memory.summary()
    assert 10 < summary["first_minute"] == pytest.approx(summary["last_minute"], rel=0.2)
    assert summary["peak"] >= summary["last_minute"]
