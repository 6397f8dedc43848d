"""The engine with its real threads: from start to stop, changed while it runs, failing in order, from the command line."""

import json
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from engine.avatar import open_avatar
from engine.controls import Controls
from engine.errors import AudioError, AvatarError, OutputError
from engine.inference import Inference
from engine.live import LiveConfig, LiveEngine
from engine.outputs.recorder import Recorder

PATIENCE_S = 60.0  # a busy machine may be slow; what is asserted is what happens, never how fast


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    time_s = np.arange(2 * 16000) / 16000
    sound = 0.2 * np.sin(2 * np.pi * 3 * time_s) * np.random.default_rng(0).standard_normal(len(time_s))
    path = tmp_path / "speech.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, len(time_s), "NONE", ""))
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype(np.int16).tobytes())
    return path


@pytest.fixture
def engine(tiny_rgba_pack: Path, speech: Path) -> Iterator[LiveEngine]:
    live = LiveEngine(
        open_avatar(tiny_rgba_pack), LiveConfig(microphone=str(speech), backend="onnxruntime", width=320, height=180)
    )
    yield live
    live.stop()


def until(done: Callable[[], bool], what: str) -> None:
    began_s = time.perf_counter()
    while not done():
        assert time.perf_counter() - began_s < PATIENCE_S, f"never: {what}"
        time.sleep(0.02)


def frames(engine: LiveEngine, more: int) -> None:
    goal = engine.statistics().frames + more
    until(lambda: engine.statistics().frames >= goal or engine.failure is not None, f"{more} more frames")


def test_a_session_from_start_to_stop(engine: LiveEngine) -> None:
    before = threading.active_count()
    engine.start()
    frames(engine, 40)
    now = engine.statistics()
    assert now.running
    assert now.microphone_status == "file"
    assert now.microphone == "speech.wav"
    assert "ONNX Runtime" in now.backend
    assert now.latency_p50_ms > 0
    frame = engine.preview.take()
    assert frame is not None
    assert frame.picture.shape == (180, 320, 3)
    engine.stop()
    assert not engine.statistics().running
    assert threading.active_count() == before, "a thread is left over"
    report = json.loads(json.dumps(engine.report()))
    for name in ("fps", "frames", "late", "dropped", "latency_ms", "rss_mb", "stages_ms", "events", "seconds"):
        assert name in report
    assert set(report["latency_ms"]) >= {"p50", "p95", "p99"}
    assert set(report["stages_ms"]) == {"intake", "encode", "decode", "compose", "camera"}
    assert report["frames"] >= 40
    assert report["failure"] == ""
    engine.stop()


def test_wishes_reach_the_next_frames(engine: LiveEngine) -> None:
    engine.start()
    frames(engine, 5)
    engine.set_controls(Controls(person="bo", idle=0.0, background=engine._session.controls.background))
    frames(engine, 30)
    bo = engine.preview.peek()
    engine.set_controls(Controls(person="dina", idle=0.0))
    frames(engine, 30)
    dina = engine.preview.peek()
    assert bo is not None
    assert dina is not None
    assert np.abs(bo.picture.astype(int) - dina.picture).max() > 40, "another person must look different"
    assert engine.statistics().person == "dina"
    with pytest.raises(AvatarError, match="no person 'zoe'; it has ada, bo, chen, dina"):
        engine.set_controls(Controls(person="zoe"))


def test_a_file_is_spoken_once_and_then_the_microphone_again(engine: LiveEngine, speech: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(speech.read_bytes())
    engine.start()
    frames(engine, 5)
    engine.speak_file(other)
    until(lambda: engine.statistics().microphone == "other.wav", "the other file")
    until(lambda: engine.statistics().microphone == "speech.wav", "the first file again")
    assert "file spoken" in [event.kind for event in engine.statistics().events]
    engine.set_microphone("none")
    until(lambda: engine.statistics().microphone_status == "off", "silence")
    with pytest.raises(AudioError, match="no such file"):
        engine.set_microphone("missing.wav")


def film_of(path: Path) -> tuple[int, float, float]:
    """(frames, seconds of sound, seconds of picture); raises if it does not decode."""
    with av.open(str(path)) as film:
        pictures = [float(frame.pts * frame.time_base) for frame in film.decode(video=0)]
    with av.open(str(path)) as film:
        sound_s = sum(frame.samples / frame.sample_rate for frame in film.decode(audio=0))
    return len(pictures), sound_s, pictures[-1] - pictures[0]


def test_a_recording_holds_picture_and_sound_of_the_same_length(engine: LiveEngine, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    engine.start()
    frames(engine, 10)
    engine.start_recording(film)
    with pytest.raises(OutputError, match=r"film\.mp4 is being recorded"):
        engine.start_recording(tmp_path / "second.mp4")
    until(lambda: engine.statistics().recording_s > 1.5, "a film of 1.5 seconds")
    engine.stop_recording()
    until(film.exists, "the film under its name")
    count, sound_s, picture_s = film_of(film)
    assert count > 5
    assert sound_s == pytest.approx(picture_s, abs=0.5)
    with pytest.raises(OutputError, match="does not exist"):
        engine.start_recording(tmp_path / "nowhere" / "film.mp4")


def test_in_a_recording_the_mouth_moves_with_the_sound(tiny_rgba_pack: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    loud = np.repeat(rng.random(30) > 0.5, 3200)
    speech, film = tmp_path / "bursts.wav", tmp_path / "film.mp4"
    with wave.open(str(speech), "wb") as file:
        file.setparams((1, 2, 16000, len(loud), "NONE", ""))
        noise = 0.2 * loud * rng.standard_normal(len(loud))
        file.writeframes((np.clip(noise, -1, 1) * 32767).astype(np.int16).tobytes())
    still = Controls(idle=0.0, blink_rate=0.0)
    config = LiveConfig(str(speech), backend="onnxruntime", controls=still, width=320, height=180)
    live = LiveEngine(open_avatar(tiny_rgba_pack), config)
    live.start()
    try:
        frames(live, 20)
        live.start_recording(film)
        until(lambda: live.statistics().recording_s > 5.0, "a film of five seconds")
    finally:
        live.stop()
    with av.open(str(film)) as container:
        pictures = {
            round(float(frame.pts * frame.time_base) * 30): frame.to_ndarray(format="gray")[96:130, 146:174].mean()
            for frame in container.decode(video=0)
        }
    with av.open(str(film)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    seen = sorted(pictures)
    openness = -np.array([pictures[k] for k in seen])
    openness = np.interp(np.arange(seen[0], seen[-1]), seen, openness)  # a busy machine leaves frames out

    def loudness(lag: int) -> np.ndarray:
        level = np.abs(np.pad(sound, 48000))
        starts = [48000 + (k - lag) * 1600 for k in range(seen[0], seen[-1])]
        return np.array([level[start : start + 1600].mean() for start in starts])

    likeness = {lag: np.corrcoef(openness[5:], loudness(lag)[5:])[0, 1] for lag in range(-12, 13)}
    best = max(likeness, key=lambda lag: likeness[lag])
    assert likeness[best] > 0.6
    assert abs(best) <= 1, f"the mouth is {best} frames after the sound: {likeness}"


def test_a_full_disk_ends_the_film_and_nothing_else(
    engine: LiveEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Recorder, stream: object, frame: object) -> None:
        if self.frames > 20 and self.path.name == "full.mp4":
            raise OutputError("full.mp4: writing failed (No space left on device)")
        mux(self, stream, frame)

    mux = Recorder._mux
    monkeypatch.setattr(Recorder, "_mux", full)
    engine.start()
    frames(engine, 10)
    engine.start_recording(tmp_path / "full.mp4")
    until(lambda: "recording failed" in [event.kind for event in engine.statistics().events], "the film's failure")
    assert "No space left" in engine.statistics().recording_failure
    assert engine.statistics().recording == ""
    assert engine.failure is None
    frames(engine, 10)
    kept = list(tmp_path.glob("full.partial*"))
    assert film_of(kept[0])[0] > 5, "what was filmed so far plays"
    engine.start_recording(tmp_path / "second.mp4")
    until(lambda: engine.statistics().recording_s > 0.5, "a second film")
    engine.stop()
    assert film_of(tmp_path / "second.mp4")[0] > 5


def test_a_failure_is_kept_the_film_finished_and_the_camera_left_on_its_picture(
    engine: LiveEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film.mp4"
    engine.start()
    frames(engine, 5)
    engine.start_recording(film)
    until(lambda: engine.statistics().recording_s > 0.5, "half a second of film")
    frame = engine.preview.peek()

    def break_down(self: Inference, animator: object) -> None:
        raise RuntimeError("the graphics card fell out")

    monkeypatch.setattr(Inference, "_draw", break_down)
    until(lambda: engine.failure is not None, "the failure")
    assert engine.failure is not None
    assert str(engine.failure) == "inference: RuntimeError: the graphics card fell out"
    assert "break_down" in engine.failure.details
    now = engine.statistics()
    assert not now.running
    assert now.failure == str(engine.failure)
    shown = engine.statistics().frames
    until(lambda: engine.statistics().frames > shown + 5, "the camera going on with a still")
    assert frame is not None
    until(film.exists, "the film")
    assert film_of(film)[0] > 5
    engine.stop()
    assert engine.report()["failure"] == str(engine.failure)


def test_named_devices_that_are_not_there_are_refused_at_the_door(tiny_rgba_pack: Path) -> None:
    avatar = open_avatar(tiny_rgba_pack)
    for config, error in (
        (LiveConfig(microphone="no such microphone"), AudioError),
        (LiveConfig(microphone="none", monitor="no such output"), AudioError),
        (LiveConfig(microphone="none", camera="no such camera"), OutputError),
        (LiveConfig(microphone="none", controls=Controls(person="zoe")), AvatarError),
    ):
        refused = LiveEngine(avatar, config)
        with pytest.raises(error):
            refused.start()
        refused.stop()


def live(*words: str) -> list[str]:
    return [sys.executable, "-m", "engine", "live", "--camera", "none", "--backend", "onnxruntime", *words]


def test_the_command_writes_report_and_film(tiny_rgba_pack: Path, speech: Path, tmp_path: Path) -> None:
    report, film = tmp_path / "report.json", tmp_path / "film.mp4"
    words = live("--avatar", str(tiny_rgba_pack), "--mic", str(speech), "--emotion", "happy=0.7", "--pose", "yaw=10")
    words += ["--seconds", "6", "--report", str(report), "--record", str(film), "--fps", "15", "--background", "green"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "voice to frame" in done.stdout
    assert json.loads(report.read_text())["frames"] > 10
    assert film_of(film)[0] > 10
    assert not list(tmp_path.glob("*.partial*"))


def test_ctrl_c_ends_in_order(tiny_rgba_pack: Path, speech: Path, tmp_path: Path) -> None:
    report, film = tmp_path / "report.json", tmp_path / "film.mp4"
    words = live("--avatar", str(tiny_rgba_pack), "--mic", str(speech), "--report", str(report), "--record", str(film))
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: any(part.stat().st_size > 4096 for part in tmp_path.glob("film*")), "a film that grows")
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    assert "Traceback" not in complaints
    assert json.loads(report.read_text())["failure"] == ""
    assert film_of(film)[0] > 1
    assert "film in" in said


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--mic", "missing.wav"], "missing.wav: no such file"),
        (["--mic", "none", "--person", "zoe"], "no person 'zoe'"),
        (["--mic", "none", "--fps", "120"], "out of range"),
        (["--mic", "none", "--report", "/nowhere/r.json"], "does not exist"),
        (["--mic", "none", "--record", "film.txt"], "expected .mp4"),
        (["--mic", "none", "--emotion", "joy"], "emotion 'joy' is unknown"),
    ],
)
def test_bad_words_give_one_clear_line(
    tiny_rgba_pack: Path,
    words: list[str],
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from engine.__main__ import main

    monkeypatch.chdir(tmp_path)
    assert main(["live", "--camera", "none", "--avatar", str(tiny_rgba_pack), *words]) == 1
    assert not list(tmp_path.glob("film*")), "nothing is left behind"
    said = capsys.readouterr().err.strip().splitlines()
    assert len([each for each in said if each.startswith("mouthpiece:")]) == 1
    assert line in said[-1]
