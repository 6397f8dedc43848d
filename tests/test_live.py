"""The live engine: on a simulated clock for pacing, overload and faults; with real threads for its life from start to
stop.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import packs
import pytest
from simulation import Camera, LiveSimulation

from engine.audio.capture import Batch
from engine.audio.keeper import SoundDoors, Wish
from engine.audio.sources import FileMicrophone
from engine.controls import Background, Controls
from engine.errors import AudioError, OutputError
from engine.session import LiveFrame

RATE = 16000
Make = Callable[..., LiveSimulation]


def speech_like(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in syllables, four a second."""
    time_s = np.arange(int(seconds * RATE)) / RATE
    loud = np.clip(np.sin(2 * np.pi * 4 * time_s), 0, 1) ** 2
    return (0.2 * loud * np.random.default_rng(seed).standard_normal(len(time_s))).astype(np.float32)


def speaking(seconds: float = 3.0) -> Wish:
    return Wish("file", "speech", speech_like(seconds))


@pytest.fixture
def make(tiny_rgba_pack: Path) -> Iterator[Make]:
    made: list[LiveSimulation] = []

    def build(wish: Wish | None = None, **settings: object) -> LiveSimulation:
        made.append(LiveSimulation(tiny_rgba_pack, wish, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for live in made:
        live.close()


def test_the_camera_gets_every_frame_in_order_at_thirty_a_second(make: Make) -> None:
    live = make(speaking())
    live.run(10.0)
    settled = [number for number, at_s in enumerate(live.sent.at_s) if at_s > 1.0]
    index = np.array(live.sent.index)[settled]
    assert np.array_equal(np.diff(index), np.ones(len(index) - 1)), "a frame was shown twice, left out or out of order"
    gaps = np.diff(np.array(live.sent.at_s)[settled])
    assert abs(gaps.mean() - 1 / 30) < 1e-4
    assert gaps.min() > 0.025
    assert gaps.max() < 0.042
    assert live.session.ledger.dropped == 0
    assert live.sent.shapes == {(180, 320, 3)}


def test_latency_is_the_drawing_time_and_little_more(make: Make) -> None:
    live = make(speaking())
    live.run(8.0)
    # 12 ms of drawing, 10 ms until a hop is whole, the grid of the camera: what is over comes from waiting somewhere.
    assert 12.0 < live.session.ledger.latency.quantile(0.5) < 40.0
    assert live.session.ledger.latency.quantile(0.99) < 60.0


def test_frames_show_what_was_heard_when_they_say(make: Make) -> None:
    live = make(speaking())
    seen = []
    take = live.session.to_camera.put
    live.session.to_camera.put = lambda frame: (seen.append(frame), take(frame))[1]  # type: ignore[method-assign, assignment]
    live.run(3.0)
    for frame in seen[3:]:
        due = frame.index * RATE / 30 + live.session.avatar.lookahead_hops * 160
        assert due - 160 <= frame.newest_sample <= due
        assert live.session.clock.time_of(frame.newest_sample) <= frame.ready_s


JAW = packs.JAW  # of the expression: follows loudness


def bursts(seconds: float) -> Wish:
    """Noise that comes and goes at odd moments, so that only one lag fits."""
    rng = np.random.default_rng(5)
    loud = np.repeat(rng.random(int(seconds * 5)) > 0.5, RATE // 5)
    return Wish("file", "bursts", (0.2 * loud * rng.standard_normal(len(loud))).astype(np.float32))


def best_lag_frames(mouth: np.ndarray, loudness: np.ndarray) -> int:
    """How many frames the mouth comes after the sound."""
    return max(range(-10, 11), key=lambda lag: np.corrcoef(mouth[15:-15], np.roll(loudness, lag)[15:-15])[0, 1])


def test_the_mouth_moves_with_the_sound_it_is_shown_for(make: Make) -> None:
    live = make(bursts(7.0))
    mouth: dict[int, float] = {}
    heard: list[tuple[float, np.ndarray]] = []
    put, pull = live.session.to_camera.put, live.capture.pull

    def watch(frame: LiveFrame) -> None:
        assert frame.expression is not None
        mouth[frame.index] = float(frame.expression[JAW])
        put(frame)

    def listen(now_s: float) -> np.ndarray:
        samples = pull(now_s)
        heard.extend((part.position, part.samples) for part in live.capture.heard)
        return samples

    live.session.to_camera.put = watch  # type: ignore[method-assign]
    live.capture.pull = listen  # type: ignore[method-assign]
    live.run(7.0)
    sound = np.concatenate([samples for _, samples in heard])
    frames = range(5, max(mouth) - 5)
    loudness = np.array([np.abs(sound[k * RATE // 30 : (k + 1) * RATE // 30]).mean() for k in frames])
    assert [position for position, _ in heard] == pytest.approx(np.cumsum([0, *(len(s) for _, s in heard[:-1])]))
    assert abs(best_lag_frames(np.array([mouth[k] for k in frames]), loudness)) <= 1


def test_an_overloaded_machine_drops_frames_and_keeps_its_latency(make: Make) -> None:
    live = make(speaking())
    live.drawing_s = lambda index: 0.1 if 90 <= index < 240 else 0.012
    live.run(3.0)
    assert live.session.ledger.dropped == 0
    live.run(5.0)
    busy = [index for index, at_s in zip(live.sent.index, live.sent.at_s) if 4.0 < at_s < 8.0]
    assert live.session.ledger.dropped > 60
    assert len(busy) == pytest.approx(4 * 30, abs=2), (
        "the camera must get frames at its own pace, if need be the same again"
    )
    ages = [at_s - index / 30 for index, at_s in zip(live.sent.index, live.sent.at_s) if 4.0 < at_s < 8.0]
    assert max(ages) < 0.35, "latency grew"
    hops = live.capture.position // 160
    assert live.inference._animator is not None
    assert live.inference._animator._encoder.hops == hops, "the encoder must hear every hop"
    late_before = live.session.ledger.late
    live.run(2.0)
    late_after = live.session.ledger.late
    live.run(4.0)
    assert live.session.ledger.late == late_after, f"still late after two seconds ({late_before} before)"


@pytest.mark.parametrize("fps", [10, 15, 24])
def test_fewer_frames_a_second_are_drawn_only_as_often(make: Make, fps: int) -> None:
    live = make(speaking(), fps=fps)
    live.run(5.0)
    settled = [index for index, at_s in zip(live.sent.index, live.sent.at_s) if at_s > 1.0]
    assert len(settled) == pytest.approx(4 * fps, abs=1)
    assert sorted(set(settled)) == settled
    assert live.session.ledger.drawn <= 5 * fps + 2
    assert live.session.ledger.dropped == 0


@pytest.mark.parametrize("ppm", [-200.0, 200.0])
def test_a_microphone_clock_that_is_off_is_followed_by_the_camera(make: Make, ppm: float) -> None:
    source = FileMicrophone("skewed", speech_like(3.0), RATE, ppm=ppm)
    live = make(Wish("device"), doors=SoundDoors(microphone=lambda name, latency: source))
    live.run(2.0)
    ledger = live.session.ledger
    before = ledger.late, ledger.dropped, ledger.silence_filled_s, ledger.backlog_dropped_s
    live.run(6.0)
    assert (ledger.late, ledger.dropped, ledger.silence_filled_s, ledger.backlog_dropped_s) == before
    index = np.array([index for index, at_s in zip(live.sent.index, live.sent.at_s) if at_s > 2.0])
    assert np.array_equal(np.diff(index), np.ones(len(index) - 1))


def test_without_a_microphone_the_face_idles_at_full_rate(make: Make) -> None:
    live = make(Wish("off"))
    live.run(5.0)
    assert len(live.sent.at_s) == pytest.approx(5 * 30, abs=6)
    assert live.session.ledger.late <= 3
    assert len(set(live.sent.index)) > 4.7 * 30


class FaultyMicrophone(FileMicrophone):
    """Delivers nothing between `gone_s` and `back_s`; afterwards, with `burst`, everything it held back at once."""

    def __init__(
        self, live: LiveSimulation, gone_s: float, back_s: float, *, burst: bool = False, zeros: bool = False
    ) -> None:
        super().__init__("faulty", speech_like(3.0), RATE)
        self._live, self._gone_s, self._back_s, self._burst, self._zeros = live, gone_s, back_s, burst, zeros
        self._last_s = 0.0

    def read(self, now_s: float) -> Batch:
        gone = self._gone_s < now_s < self._back_s
        if gone and self._burst:
            return Batch(np.zeros(0, np.float32), self._last_s)
        batch = super().read(now_s)
        if gone and not self._zeros:
            return Batch(np.zeros(0, np.float32), self._last_s)
        if len(batch.samples):
            self._last_s = now_s
        # As a driver does: what was held back is dated by when it was delivered.
        return Batch(batch.samples * (0 if gone else 1), now_s if self._burst else batch.newest_at_s)

    def age_s(self, now_s: float) -> float:
        return now_s - self._last_s if self._last_s else 0.0


class Bench:
    """A microphone that is pulled out at 3 s and is back at 5 s."""

    def __init__(self) -> None:
        self.live: LiveSimulation | None = None
        self.restarts = self.opened = 0
        self.present = True

    def doors(self) -> SoundDoors:
        return SoundDoors(microphone=self.open, restart=self.restart)

    def restart(self) -> None:
        self.restarts += 1

    def open(self, name: str, latency: float | str) -> FileMicrophone:
        assert self.live is not None
        now_s = self.live.timeline.now()
        if 3.0 < now_s < 5.0:
            raise AudioError("no microphone found: plug one in")
        self.opened += 1
        return FaultyMicrophone(self.live, 3.0, 5.0)


def test_a_microphone_that_is_pulled_out_comes_back_by_itself(make: Make) -> None:
    bench = Bench()
    live = bench.live = make(Wish("device"), doors=bench.doors())
    live.run(2.9)
    assert live.keeper.status == "live"
    live.run(1.1)
    assert live.keeper.status == "lost"
    live.run(6.0)
    assert live.keeper.status == "live"
    events = {event.kind: event.at_s for event in live.session.ledger.events.newest()}
    assert 3.4 < events["microphone lost"] < 3.8
    assert 5.0 <= events["microphone found"] < 7.0, "found again within two seconds"
    assert bench.opened == 2
    assert bench.restarts >= 1, "PortAudio's list has to be made anew"
    gaps = np.diff([at_s for at_s in live.sent.at_s if at_s > 1.0])
    assert gaps.max() < 0.05, "the camera never freezes"
    idle = [index for index, at_s in zip(live.sent.index, live.sent.at_s) if 3.6 < at_s < 5.0]
    assert len(set(idle)) > 0.9 * len(idle), "the face goes on"
    assert live.session.ledger.silence_filled_s == pytest.approx(2.0, abs=0.6)
    assert live.capture.position / RATE == pytest.approx(10.0, abs=0.05), "stream time must not lie"


def test_a_system_without_sound_is_no_failure(make: Make) -> None:
    def refuse(*words: object) -> FileMicrophone:
        raise AudioError("sound devices need the PortAudio library: sudo apt install libportaudio2")

    live = make(Wish("device"), doors=SoundDoors(microphone=refuse, monitor=refuse, restart=refuse))  # type: ignore[arg-type]
    live.keeper.want_monitor("")
    live.run(3.0)
    assert live.keeper.status == "lost"
    assert "libportaudio2" in live.keeper.message
    assert live.session.ledger.events.counts() == {"camera open": 1, "microphone lost": 1, "monitor lost": 1}
    assert len(live.sent.at_s) > 80


def test_a_backlog_that_comes_in_a_burst_is_dropped_to_the_newest(make: Make) -> None:
    live = make(Wish("device"), doors=SoundDoors(microphone=lambda name, latency: source, restart=lambda: None))
    source = FaultyMicrophone(live, 3.0, 3.4, burst=True)
    live.run(8.0)
    assert live.keeper.status == "live"
    assert live.session.ledger.backlog_dropped_s == pytest.approx(0.4, abs=0.15)
    assert live.capture.position / RATE == pytest.approx(8.0, abs=0.05)
    assert live.session.ledger.latency.quantile(0.99) < 250
    late = live.session.ledger.late
    live.run(2.0)
    assert live.session.ledger.late == late


def test_zeros_for_ever_are_doubted_and_told(make: Make) -> None:
    opened = []

    def door(name: str, latency: float | str) -> FileMicrophone:
        opened.append(live.timeline.now())
        return FaultyMicrophone(live, 2.0, 9.0, zeros=True)

    live = make(Wish("device"), doors=SoundDoors(microphone=door, restart=lambda: None))
    live.run(8.5)
    assert live.keeper.status == "silent"
    assert len(opened) >= 2
    assert live.session.ledger.events.counts() == {"microphone silent": 1, "camera open": 1}
    live.run(3.0)
    assert live.keeper.status == "live"


class Speaker:
    """An output that notes what it is told; it dies at `dies_s`."""

    name = "cable"

    def __init__(self, live: LiveSimulation, dies_s: float) -> None:
        self._live, self._dies_s = live, dies_s
        self.delay_s = 0.0
        self.heard_s = 0.0
        self.closed = False

    def set_delay(self, seconds: float) -> None:
        self.delay_s = seconds

    def push(self, samples: np.ndarray, rate: int, late_s: float) -> None:
        assert not self.closed
        self.heard_s += len(samples) / rate

    def age_s(self, now_s: float) -> float:
        return max(0.0, now_s - self._dies_s)

    def close(self) -> None:
        self.closed = True


def test_the_monitor_gets_all_sound_and_the_delay_of_the_face_and_is_opened_again(make: Make) -> None:
    opened: list[Speaker] = []
    restarts = []

    def door(name: str) -> Speaker:
        assert name == "cable"
        if live.timeline.now() < 1.0:
            raise AudioError("no output is called 'cable'; there are: ALSA: speakers")
        opened.append(Speaker(live, 3.0 if not opened else 1e9))
        return opened[-1]

    live = make(speaking(), doors=SoundDoors(monitor=door, restart=lambda: restarts.append(1)))
    live.keeper.want_monitor("cable")
    live.run(0.5)
    assert live.keeper.monitor_message.startswith("no output is called 'cable'")
    assert restarts, "an output that was plugged in since is only seen after a restart"
    assert live.keeper.status == "file", "the file goes on meanwhile"
    live.run(5.5)
    assert len(opened) == 2
    assert opened[0].closed
    assert opened[1].heard_s == pytest.approx(6.0 - 4.05, abs=0.3)
    assert opened[1].delay_s == pytest.approx(live.session.video_delay_s, abs=0.005)
    assert 0.04 < opened[1].delay_s < 0.12
    assert live.session.ledger.events.counts()["monitor lost"] == 2
    live.keeper.want_monitor(None)
    live.run(0.2)
    assert opened[1].closed


def test_a_lost_camera_is_opened_again_and_its_size_stays(make: Make) -> None:
    live = make(speaking())

    def misbehave(number: int) -> None:
        if 2.0 < live.timeline.now() < 4.0:
            raise OutputError("the camera simulated is gone")

    def open_camera(name: str) -> Camera:
        if 2.0 < live.timeline.now() < 4.0:
            raise OutputError("no virtual camera found")
        return Camera(live)

    live.misbehave, live.open = misbehave, open_camera
    live.run(3.5)
    assert not live.feed.camera_ok
    assert live.feed.message == "no virtual camera found"
    frames_without = live.session.ledger.frames
    live.run(4.0)
    assert live.feed.camera_ok
    assert live.feed.message == ""
    assert live.session.ledger.events.counts() == {"camera open": 2, "camera lost": 1}
    assert max(live.sent.at_s[n + 1] - live.sent.at_s[n] for n in range(len(live.sent.at_s) - 1)) < 2.0 + 1.1
    assert live.session.ledger.frames > frames_without + 3.9 * 30, "the preview goes on without a camera"
    assert live.sent.shapes == {(180, 320, 3)}
    assert live.sent.index == sorted(live.sent.index)


def test_a_camera_that_blocks_does_not_hold_up_inference(make: Make) -> None:
    live = make(speaking())
    live.misbehave = lambda number: live.timeline.spend(0.2)
    live.run(5.0)
    assert live.session.ledger.drawn == pytest.approx(5 * 30, abs=5)
    assert len(live.sent.at_s) == pytest.approx(5 / 0.2, abs=3)
    ages = [at_s - index / 30 for index, at_s in zip(live.sent.index, live.sent.at_s)]
    assert max(ages[3:]) < 0.45, "what is shown is the newest there is"


def test_another_avatar_takes_over_while_the_camera_goes_on(make: Make, tiny_pack: Path) -> None:
    from engine.avatar import open_avatar

    live = make(speaking())
    live.run(2.0)
    live.session.avatar = open_avatar(tiny_pack)
    live.run(2.0)
    assert live.inference._animator is not None
    assert live.inference._animator.avatar.path == tiny_pack
    assert live.sent.index == sorted(live.sent.index)
    gaps = np.diff([at_s for at_s in live.sent.at_s if at_s > 1.0])
    assert gaps.max() < 0.05
    ages = [at_s - index / 30 for index, at_s in zip(live.sent.index, live.sent.at_s) if at_s > 3.0]
    assert max(ages) - min(ages) < 0.05, "stream time goes on where it was"


def test_a_background_that_cannot_be_read_is_refused_once(make: Make, tmp_path: Path) -> None:
    live = make(speaking())
    live.session.controls = replace(Controls(), background=Background("colour", (10, 20, 30)))
    live.run(2.0)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    live.session.controls = replace(live.session.controls, background=Background("image", image=broken))
    live.run(1.0)
    assert live.session.ledger.events.counts()["background refused"] == 1
    assert live.session.controls.background.colour == (10, 20, 30)
    frame = live.session.preview.peek()
    assert frame is not None
    assert tuple(frame.picture[0, 0]) == (10, 20, 30)
