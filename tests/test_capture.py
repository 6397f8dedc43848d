"""Stream time never lies: rates, clocks that run fast, holes, bursts and dead microphones, on a simulated clock."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audio.capture import PATIENCE_S, RATE, Batch, Capture
from engine.audio.resample import Resampler
from engine.audio.sources import Downmix, FileMicrophone
from engine.clock import LEAK, StreamClock
from engine.errors import AudioError
from engine.stats import Ledger

TURN_S = 0.003


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, int(seconds * rate)).astype(np.float32)


def listening(source: object, began_s: float = 0.0) -> Capture:
    clock = StreamClock()
    clock.anchor(0, began_s)
    capture = Capture(clock, Ledger())
    capture.attach(source)  # type: ignore[arg-type]
    return capture


def hear(capture: Capture, begin_s: float, end_s: float) -> np.ndarray:
    return np.concatenate([capture.pull(now_s) for now_s in np.arange(begin_s, end_s, TURN_S)])


# Resampler


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000, 96000])
def test_resampling_agrees_with_soxr_below_the_edge(rate: int) -> None:
    sound = noise(2.0, rate)
    ours, truth = Resampler(rate, RATE).push(sound), soxr.resample(sound, rate, RATE, quality="VHQ")
    count = min(len(ours), len(truth))
    window = np.hanning(count)
    a, b = np.fft.rfft(ours[:count] * window), np.fft.rfft(truth[:count] * window)
    band = np.fft.rfftfreq(count, 1 / RATE) < min(6500, 0.8 * rate / 2)
    error_db = 10 * np.log10(np.sum(np.abs(a - b)[band] ** 2) / np.sum(np.abs(b[band]) ** 2))
    assert error_db < -70


@pytest.mark.parametrize("tone_hz", [9100, 11000, 15000, 21000])
def test_what_cannot_be_kept_is_not_folded_back(tone_hz: int) -> None:
    tone = np.sin(2 * np.pi * tone_hz * np.arange(48000) / 48000).astype(np.float32)
    assert np.std(Resampler(48000, RATE).push(tone)[200:]) < 10 ** (-65 / 20)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from([8000, 44100, 48000]), st.lists(st.integers(0, 700), max_size=20))
def test_the_cut_of_the_blocks_does_not_matter(rate: int, sizes: list[int]) -> None:
    sound = noise(sum(sizes) / rate + 0.001, rate)
    pieces = np.split(sound, np.cumsum(sizes))
    stream = Resampler(rate, RATE)
    joined = np.concatenate([stream.push(piece) for piece in pieces])
    assert np.allclose(joined, Resampler(rate, RATE).push(sound), atol=1e-6)


def test_resampling_is_prompt() -> None:
    stream = Resampler(48000, RATE)
    assert stream.delay_s < 0.0012
    heard = 0
    for block in range(1, 21):
        heard += len(stream.push(noise(0.01, 48000)))
        assert block * 160 - heard <= 18, "no more than the filter's half length is ever kept back"


# Clock


@given(st.lists(st.floats(0, 0.04), min_size=50, max_size=50))
def test_the_clock_follows_the_earliest_arrivals(late_s: list[float]) -> None:
    clock = StreamClock()
    clock.anchor(0, 5.0)
    for block in range(2000):
        position = 160 * (block + 1)
        clock.observe(position, 5.0 + position / RATE + late_s[block % 50])
    wander_s = LEAK * 0.5  # between two of the earliest arrivals
    assert -1e-9 <= clock.time_of(0) - 5.0 <= min(late_s) + wander_s


@pytest.mark.parametrize("ppm", [-200, 200])
def test_a_clock_that_is_off_is_followed(ppm: int) -> None:
    clock = StreamClock()
    clock.anchor(0, 0.0)
    for block in range(30_000):
        position, at_s = 160 * (block + 1), 0.01 * (block + 1) * (1 - ppm * 1e-6)
        clock.observe(position, at_s)
    assert abs(clock.time_of(position) - at_s) < 0.001, "five minutes must not add up to 60 ms"


# Capture


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_speech_comes_through_unbroken(rate: int) -> None:
    sound = noise(2.0, rate)
    capture = listening(FileMicrophone("noise", sound, rate))
    heard = hear(capture, 0.0, 1.9)
    truth = soxr.resample(sound, rate, RATE, quality="VHQ")
    piece = heard[6000:26000]  # after the silence and the cut of the beginning
    size = 1 << 16
    product = np.fft.rfft(truth, size) * np.conj(np.fft.rfft(piece, size))
    product[int(6500 / (RATE / 2) * size / 2) :] = 0  # our filter's edge is softer above
    match = np.fft.irfft(product)
    lag = int(np.argmax(match))
    assert abs(lag - 6000) < 400, "stream time and file time must agree"
    band = np.fft.rfftfreq(len(piece), 1 / RATE) < 6500
    ours, theirs = (np.fft.rfft(part * np.hanning(len(piece)))[band] for part in (piece, truth[lag : lag + len(piece)]))
    alike = abs(np.vdot(ours, theirs)) / (np.linalg.norm(ours) * np.linalg.norm(theirs))
    assert alike > (0.999 if rate > 8000 else 0.95)
    assert capture.position == len(heard)
    assert capture.position / RATE == pytest.approx(1.9, abs=0.02)


@pytest.mark.parametrize("ppm", [-200.0, 0.0, 200.0])
def test_a_microphone_clock_that_is_off_loses_and_adds_nothing(ppm: float) -> None:
    capture = listening(FileMicrophone("noise", noise(3.0), RATE, ppm=ppm))
    hear(capture, 0.0, 1.0)
    ledger = capture._ledger
    filled_s, dropped_s = ledger.silence_filled_s, ledger.backlog_dropped_s
    lateness = []
    for now_s in np.arange(1.0, 90.0, TURN_S):
        if len(capture.pull(now_s)):
            lateness.append(now_s - capture.clock.time_of(capture.position))
    assert (ledger.silence_filled_s, ledger.backlog_dropped_s) == (filled_s, dropped_s)
    assert capture.position / RATE == pytest.approx(90 * (1 + ppm * 1e-6), abs=0.03)
    assert max(lateness) < 0.016, "the clock must stay with the microphone"
    assert min(lateness) > -0.001


class Recorded:
    """A source that delivers what a script says: (at, samples) in order of time."""

    name, rate = "recorded", RATE

    def __init__(self, script: list[tuple[float, int]]) -> None:
        self.script, self.value = list(script), 0

    def read(self, now_s: float) -> Batch:
        count, at_s = 0, now_s
        while self.script and self.script[0][0] <= now_s:
            at_s, more = self.script.pop(0)
            count += more
        samples = np.arange(self.value + 1, self.value + count + 1, dtype=np.float32) * 1e-6
        self.value += count
        return Batch(samples, at_s)

    def age_s(self, now_s: float) -> float:
        return 0.0

    def close(self) -> None: ...


def blocks(begin_s: float, end_s: float) -> list[tuple[float, int]]:
    return [(at_s, 160) for at_s in np.arange(begin_s + 0.01, end_s + 1e-9, 0.01)]


def test_a_stall_becomes_silence_after_a_moment_of_patience() -> None:
    capture = listening(Recorded(blocks(0.0, 1.0)))
    hear(capture, 0.0, 1.0 + PATIENCE_S - 0.01)
    assert capture._ledger.silence_filled_s < 0.02
    hear(capture, 1.0 + PATIENCE_S - 0.01, 3.0)
    assert capture.position / RATE == pytest.approx(3.0, abs=0.01)
    assert capture._ledger.silence_filled_s == pytest.approx(2.0, abs=0.05)


def test_a_backlog_is_dropped_to_the_newest() -> None:
    burst = [(1.5, 160)] * 50 + blocks(1.5, 3.0)
    source = Recorded(blocks(0.0, 1.0) + burst)
    capture = listening(source)
    heard = hear(capture, 0.0, 3.0)
    assert capture._ledger.backlog_dropped_s == pytest.approx(0.5, abs=0.03)
    assert heard[-1] == pytest.approx(source.value * 1e-6), "what is kept is the newest"
    assert capture.position / RATE == pytest.approx(3.0, abs=0.02)


def test_samples_lost_without_a_word_are_replaced_by_silence() -> None:
    source = Recorded(blocks(0.0, 1.0) + blocks(1.06, 4.0))  # 60 ms never came; too short to be a stall
    capture = listening(source)
    hear(capture, 0.0, 4.0)
    assert capture._ledger.silence_filled_s == pytest.approx(0.06, abs=0.02)
    assert capture.position / RATE == pytest.approx(4.0, abs=0.02)


def test_a_computer_that_slept_goes_on_where_it_was() -> None:
    capture = listening(Recorded(blocks(0.0, 1.0) + blocks(3600.0, 3602.0)))
    hear(capture, 0.0, 1.0)
    before = capture.position
    began_s = 3599.5
    for now_s in np.arange(began_s, 3602.0, TURN_S):
        capture.pull(now_s)
    assert capture._ledger.slept_s > 3590
    assert (capture.position - before) / RATE == pytest.approx(2.5, abs=0.05)


def test_muted_is_digital_silence_but_the_meter_lives() -> None:
    capture = listening(FileMicrophone("noise", noise(1.0), RATE))
    capture.muted = True
    assert not hear(capture, 0.0, 0.5).any()
    assert capture.level > 0.05


def test_changing_microphones_keeps_stream_time() -> None:
    capture = listening(FileMicrophone("first", noise(1.0), RATE))
    hear(capture, 0.0, 1.0)
    capture.attach(FileMicrophone("second", noise(1.0, 48000), 48000))
    hear(capture, 1.0, 2.0)
    capture.attach(None)
    hear(capture, 2.0, 3.0)
    assert capture.position / RATE == pytest.approx(3.0, abs=0.02)


# Sources


def test_a_dead_channel_does_not_halve_the_voice() -> None:
    voice = noise(0.1)
    dead = np.stack([voice, np.zeros_like(voice)], axis=1)
    assert np.allclose(Downmix(2).mono(dead), voice)
    upside_down = np.stack([voice, -voice], axis=1)
    assert np.allclose(np.abs(Downmix(2).mono(upside_down)), np.abs(voice))
    both = np.stack([voice, 0.5 * voice], axis=1)
    assert np.allclose(Downmix(2).mono(both), 0.75 * voice)


def test_a_file_plays_in_real_time_and_loops() -> None:
    sound = noise(0.5)
    microphone = FileMicrophone("half a second", sound, RATE)
    heard = [microphone.read(now_s) for now_s in np.arange(10.0, 11.3, 0.007)]
    joined = np.concatenate([batch.samples for batch in heard])
    assert np.allclose(joined, np.tile(sound, 3)[: len(joined)])
    assert len(joined) / RATE == pytest.approx(1.3, abs=0.02)
    assert all(batch.newest_at_s <= now_s for batch, now_s in zip(heard, np.arange(10.0, 11.3, 0.007)))


def test_a_file_that_plays_once_ends() -> None:
    microphone = FileMicrophone("once", noise(0.5), RATE, loop=False)
    microphone.read(0.0)
    assert not microphone.finished
    assert len(microphone.read(2.0).samples) == 8000
    assert microphone.finished
    assert len(microphone.read(3.0).samples) == 0


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(AudioError, match="holds no sound"):
        FileMicrophone("empty.wav", np.zeros(0, np.float32), RATE)
