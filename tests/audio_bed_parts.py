"""What `test_audio_bed.py` runs inside the audio bed, each in a process of its own: PortAudio's state is the process's.

    audio_bed_parts.py capture SPEECH.wav | names | unplug PACK SPEECH.wav | freeze PACK SPEECH.wav | monitor SPEECH.wav

The exit status is 0 if what was promised is true, 75 if the bed itself failed; the figures are printed.
"""

import json
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine.audio import portaudio
from engine.audio.capture import Capture
from engine.audio.monitor import Monitor
from engine.audio.resample import Resampler
from engine.audio.sources import Microphone
from engine.avatar import open_avatar
from engine.clock import StreamClock
from engine.errors import AudioError
from engine.live import LiveConfig, LiveEngine
from engine.stats import Ledger

BED = Path(__file__).parent / "beds" / "audio_bed.sh"
RATE = 16000
WHOLE = 0.95  # correlation above which a window of sound is the one that was played
BED_AT_FAULT = 75


def bed(*words: str) -> None:
    subprocess.run([str(BED), *words], check=True, timeout=60)


def saying(path: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([str(BED), "say", path])


def sound_of(path: str) -> np.ndarray:
    """A 48 kHz wave file as 16 kHz float32."""
    with wave.open(path) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    return Resampler(48000, RATE).push(sound)


def best_match(truth: np.ndarray, heard: np.ndarray) -> tuple[int, float]:
    """(lag in samples, normalised correlation) of `truth` inside `heard`."""
    places = len(heard) - len(truth) + 1
    if places < 1:
        return 0, 0.0
    size = 1 << (len(truth) + len(heard)).bit_length()
    match = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(truth, size)), size)[:places]
    energy = np.cumsum(np.concatenate([[0.0], np.square(heard, dtype=np.float64)]))
    loud = np.sqrt(np.maximum(energy[len(truth) :] - energy[:places], 1e-9))
    lag = int(np.argmax(match / loud))
    piece = heard[lag : lag + len(truth)]
    # Two clocks meet between samples, and half a sample off costs broad sound a tenth of its likeness.
    spectrum, turn = np.fft.rfft(truth), -2j * np.pi * np.arange(len(truth) // 2 + 1) / len(truth)
    shifted = [np.fft.irfft(spectrum * np.exp(turn * part), len(truth)) for part in np.linspace(-0.5, 0.5, 9)]
    return lag, float(max(piece @ s for s in shifted) / (np.linalg.norm(piece) * np.linalg.norm(truth) + 1e-9))


def windows_heard(truth: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """[n] how alike (0..1) each third of a second of `truth` is to its place in `heard`.

    Each window finds its own place within half a second of where the whole fits best: a busy machine drops sound or
    stretches a pause between two windows, which moves what follows without changing it.
    """
    window, reach = int(0.3 * RATE), RATE // 2
    first, _ = best_match(truth, heard)
    alike = []
    for start in range(0, len(truth) - window, window // 2):
        piece = truth[start : start + window]
        if np.square(piece).mean() < 0.1 * np.square(truth).mean():
            continue  # a pause looks like any other
        at = max(0, first + start - reach)
        alike.append(best_match(piece, heard[at : first + start + window + reach])[1])
    return np.array(alike)


def capture_speech(path: str) -> None:
    """Plays speech twice and compares it, window by window, with what `Capture` made of it.

    A second listener, the server's own recorder, hears the same: only windows that reached it whole count against
    `Capture`, and where most did not, the bed is to blame (exit status `BED_AT_FAULT`).
    """
    clock, ledger = StreamClock(), Ledger()
    clock.anchor(0, time.perf_counter())
    capture = Capture(clock, ledger)
    microphone = Microphone(portaudio.find("", "input"), 0.2)  # a busy machine must not decide the outcome
    capture.attach(microphone)
    parts: list[np.ndarray] = []
    player, plays, pulled_s = None, 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        witness = Tape(Path(folder) / "witness", "mic.monitor")
        while plays < 2 or (player is not None and player.poll() is None):
            if player is None or player.poll() is not None:
                player, plays = saying(path), plays + 1
            pulled_s = time.perf_counter()
            parts.append(capture.pull(pulled_s))
            time.sleep(0.004)
        witness.stop()
        microphone.close()
        taped = witness.samples()
    elapsed_s = pulled_s - clock.time_of(0)
    heard, truth = np.concatenate(parts), sound_of(path)
    ours, server = (
        np.concatenate([windows_heard(truth, half) for half in np.array_split(x, 2)]) for x in (heard, taped)
    )
    whole = server > WHOLE
    figures = {
        "windows": len(whole),
        "whole_at_the_server": int(whole.sum()),
        "of_these_captured": round(float((ours[whole] > WHOLE).mean()), 3) if whole.any() else None,
        "median": round(float(np.median(ours)), 4),
        "seconds": round(len(heard) / RATE, 3),
        "elapsed": round(elapsed_s, 3),
        "rate": microphone.rate,
        "flagged": microphone.flagged,
        "filled_s": round(ledger.silence_filled_s, 3),
        "backlog_s": round(ledger.backlog_dropped_s, 3),
        "overruns": ledger.overrun_frames,
    }
    print(json.dumps(figures))
    assert abs(len(heard) / RATE - elapsed_s) < 0.3, "stream time is not the time that passed"
    assert ledger.overrun_frames == 0
    if whole.mean() < 0.5:
        print("the sound server itself lost most of the sound")
        sys.exit(BED_AT_FAULT)
    assert np.median(ours[whole]) > WHOLE, "the sound is not what was played"
    assert (ours[whole] > WHOLE).mean() > 0.6, "too much of the sound is not what was played"


def names() -> None:
    """Devices by a part of their name; a wrong one says what there is; nothing is written to the terminal by C code."""
    assert portaudio.find("headset", "input").name == "headset"
    assert portaudio.find("alsa: head", "input").name == "headset"
    assert portaudio.find("", "input").is_default["input"]
    with pytest.raises(AudioError, match=r"no microphone is called 'nosuch'; there are: .*headset") as refused:
        portaudio.find("nosuch", "input")
    assert "\n" not in str(refused.value)
    microphone = Microphone(portaudio.find("headset", "input"))
    began_s = time.perf_counter()
    while microphone._ring.callbacks < 5:
        assert time.perf_counter() - began_s < 30, "no callback came"
        time.sleep(0.01)
    microphone.close()


def wait_for(engine: LiveEngine, what: str, done: Callable[[], bool], limit_s: float = 30.0) -> None:
    began_s = time.perf_counter()
    while not done():
        if time.perf_counter() - began_s > limit_s:
            raise AssertionError(f"never: {what}; {engine.report()}")
        time.sleep(0.05)


def session(pack: str) -> LiveEngine:
    engine = LiveEngine(open_avatar(pack), LiveConfig(width=320, height=180))
    engine.start()
    wait_for(engine, "frames", lambda: engine.statistics().frames > 10)
    return engine


def tell(engine: LiveEngine) -> dict[str, Any]:
    report = engine.report()
    shown = ("seconds", "frames", "late", "dropped", "silence_filled_s", "backlog_dropped_s", "events")
    print(json.dumps({name: report[name] for name in shown}))
    return report


def hears(engine: LiveEngine) -> Callable[[], bool]:
    return lambda: engine.statistics().level > 0.02 and engine.statistics().microphone_status == "live"


def unplug(pack: str, path: str) -> None:
    """The microphone goes while someone speaks and comes back: the face goes on, the report tells both, sound is heard
    again.
    """
    engine = session(pack)
    player = saying(path)
    wait_for(engine, "speech", hears(engine))
    player.kill()
    player.wait()
    bed("unplug")
    wait_for(engine, "lost", lambda: engine.statistics().microphone_status == "lost")
    frames = engine.statistics().frames
    wait_for(engine, "frames without a microphone", lambda: engine.statistics().frames > frames + 30)
    bed("plug")
    plugged_s = engine.statistics().seconds
    player = saying(path)
    wait_for(engine, "speech again", hears(engine))
    player.kill()
    player.wait()
    engine.stop()
    report = tell(engine)
    kinds = [event["kind"] for event in report["events"]]
    assert "microphone lost" in kinds
    assert "microphone found" in kinds[kinds.index("microphone lost") :]
    found_s = [event["at_s"] for event in report["events"] if event["kind"] == "microphone found"][-1]
    print("found again", round(found_s - plugged_s, 2), "s after it was plugged in")
    assert engine.failure is None
    assert report["silence_filled_s"] > 0.3


def freeze(pack: str, path: str) -> None:
    """The server stands still for a third of a second and then delivers everything at once: too short to count as lost."""
    engine = session(pack)
    player = saying(path)
    wait_for(engine, "speech", hears(engine))
    before_s = engine.report()["silence_filled_s"]
    bed("freeze")
    time.sleep(0.35)
    bed("thaw")
    frames = engine.statistics().frames
    wait_for(engine, "frames afterwards", lambda: engine.statistics().frames > frames + 45)
    player.kill()
    player.wait()
    position_s, now_s = engine._capture.position / RATE, time.perf_counter()
    expected_s = engine._session.clock.position_at(now_s) / RATE
    engine.stop()
    report = tell(engine)
    assert report["silence_filled_s"] > before_s, "the hole was not filled"
    assert abs(position_s - expected_s) < 0.5, "stream time and the clock have parted"
    assert engine.failure is None


def monitor(path: str) -> None:
    """Microphone to output: what the output's listeners get is the speech, as late as was asked for."""
    bed("speaker")
    with tempfile.TemporaryDirectory() as folder:
        played, spoken = (Tape(Path(folder) / name, f"{name}.monitor") for name in ("speaker", "mic"))
        output = Monitor(portaudio.find("", "output"), 0.1)
        microphone = Microphone(portaudio.find("headset", "input"), 0.2)
        clock = StreamClock()
        clock.anchor(0, time.perf_counter())
        capture = Capture(clock, Ledger())
        capture.attach(microphone)
        try:
            found = []
            for wanted_s in (0.45, 0.7):
                for _ in range(3):  # a bed on a busy machine may drop sound of its own; a wrong delay fails every time
                    lag_s, alike = _say_and_compare(path, wanted_s, capture, output, played, spoken)
                    if alike > 0.7:
                        break
                found.append((lag_s, alike))
        finally:
            microphone.close()
            output.close()
            for tape in (played, spoken):
                tape.stop()
    print(
        json.dumps({"lag_s_and_correlation": found, "underruns": output.delay.underruns, "held_s": output.delay.held_s})
    )
    assert all(alike > 0.7 for _, alike in found), "what is played on is not what was said"
    # Each tape starts at a moment of its own, so only the difference between the two delays is exact.
    assert abs((found[1][0] - found[0][0]) - 0.25) < 0.06


class Tape:
    """Records what a source of the server says into a file, 16 kHz float32."""

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        words = ["parec", f"--device={source}", "--raw", "--format=float32le", "--rate=16000", "--channels=1"]
        self._file = path.open("wb")
        self._process = subprocess.Popen([*words, "--latency-msec=20"], stdout=self._file)

    def samples(self) -> np.ndarray:
        data = self.path.read_bytes()
        return np.frombuffer(data[: len(data) // 4 * 4], np.float32)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._file.close()


def _say_and_compare(
    path: str, wanted_s: float, capture: Capture, output: Monitor, played: Tape, spoken: Tape
) -> tuple[float, float]:
    """Speaks once with the monitor `wanted_s` late: (how much later the output said it, correlation with the speech)."""
    output.set_delay(wanted_s)
    began_s, ended_s, player = time.perf_counter(), float("inf"), None
    before = len(played.samples()), len(spoken.samples())
    while (now_s := time.perf_counter()) < min(ended_s + 2 * wanted_s + 0.5, began_s + 60):
        if player is None and now_s - began_s > 4.0:
            player = saying(path)
        if player is not None and player.poll() is not None:
            ended_s = min(ended_s, now_s)
        capture.pull(now_s)
        clock = capture.clock
        for heard in capture.heard:
            output.push(heard.samples, heard.rate, now_s - clock.time_of(capture.entered))
        time.sleep(0.004)
    truth = sound_of(path)[RATE // 2 :]
    late, soon = (start + best_match(truth, tape.samples()[start:])[0] for tape, start in zip((played, spoken), before))
    # Easing moves the sound by milliseconds, so likeness is asked of each half second.
    half, tape = RATE // 2, played.samples()
    starts = range(0, len(truth) - half, half)
    alike = [best_match(truth[a : a + half], tape[late + a - 1600 : late + a + half + 1600])[1] for a in starts]
    return round((late - soon) / RATE, 3), round(float(np.median(alike)), 3)


PARTS: dict[str, Callable[..., None]] = {
    "capture": capture_speech, "names": names, "unplug": unplug, "freeze": freeze, "monitor": monitor,
}  # fmt: skip

if __name__ == "__main__":
    PARTS[sys.argv[1]](*sys.argv[2:])
