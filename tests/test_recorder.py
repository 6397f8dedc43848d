"""Films: they play, they say that they are synthetic, and they survive what happens to computers."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from engine.errors import OutputError
from engine.outputs.pixels import bleed, to_yuv
from engine.outputs.recorder import FilmSpec, Recorder

SPEC = FilmSpec(128, 96, "Tiny")


def picture(k: int, alpha: bool = False) -> np.ndarray:
    """A bar that moves two pixels a frame; its place says which frame it is."""
    out = np.zeros((96, 128, 4 if alpha else 3), np.uint8)
    out[20:70, 2 * k : 2 * k + 10] = 255
    return out


def bar(frame: np.ndarray) -> float:
    """Which frame the bar says it is."""
    return float((np.argwhere(frame[45, :, 0] > 128).mean() - 4.5) / 2)


def record(path: Path, frames: int = 30, alpha: bool = False, spec: FilmSpec = SPEC) -> Path:
    recorder = Recorder(path, spec)
    sound = (0.3 * np.sin(np.arange(533) * 0.2)).astype(np.float32)
    for k in range(frames):
        recorder.write_frame(picture(k, alpha))
        recorder.write_audio(sound)
    return recorder.close()


def test_a_film_plays_in_order_and_in_time(tmp_path: Path) -> None:
    path = record(tmp_path / "film.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
        frames = list(container.decode(video=0))
    assert [round(bar(f.to_ndarray(format="rgb24"))) for f in frames] == list(range(30))
    assert [f.time for f in frames] == pytest.approx([k / 30 for k in range(30)])
    with av.open(str(path)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert abs(len(sound) - 30 * 533) < 2100
    assert np.abs(sound).max() > 0.2


def test_a_film_says_that_it_is_synthetic(tmp_path: Path) -> None:
    for name, alpha in (("a.mp4", False), ("a.mov", True), ("a.webm", True)):
        with av.open(str(record(tmp_path / name, 3, alpha))) as container:
            told = {key.lower(): value for key, value in container.metadata.items()}
        assert told["synthetic"] == "true"
        assert told["avatar"] == "Tiny"
        assert told["software"] == "Mouthpiece"
        assert "not a recording of a person" in told["comment"]


def test_colours_survive(tmp_path: Path) -> None:
    colours = [(230, 60, 40), (30, 160, 60), (240, 200, 180), (255, 255, 255), (0, 0, 0)]
    recorder = Recorder(tmp_path / "c.mp4", FilmSpec(128, 96, "Tiny", crf=10))
    for colour in colours:
        recorder.write_frame(np.full((96, 128, 3), colour, np.uint8))
    with av.open(str(recorder.close())) as container:
        found = [f.to_ndarray(format="rgb24")[48, 64] for f in container.decode(video=0)]
    assert np.abs(np.array(found).astype(int) - colours).max() <= 5


def test_frames_may_be_left_out(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "gaps.mp4", SPEC)
    for k in (0, 1, 5, 6, 20):
        recorder.write_frame(picture(k), index=k)
    with av.open(str(recorder.close())) as container:
        found = [(round(f.time * 30), round(bar(f.to_ndarray(format="rgb24")))) for f in container.decode(video=0)]
    assert found == [(k, k) for k in (0, 1, 5, 6, 20)]


@pytest.mark.parametrize("name", ["a.mov", "a.webm"])
def test_alpha_is_straight_and_whole(tmp_path: Path, name: str) -> None:
    recorder = Recorder(tmp_path / name, SPEC)
    half = np.zeros((96, 128, 4), np.uint8)
    half[20:80, 30:90] = (100, 0, 0, 128)  # premultiplied: straight red is 199
    half[40:60, 50:70] = (0, 200, 0, 255)
    for _ in range(3):
        recorder.write_frame(half)
    recorder.close()
    with av.open(str(tmp_path / name)) as container:
        stream = container.streams.video[0]
        if name.endswith("webm"):  # FFmpeg's own VP9 decoder leaves alpha out; libvpx reads it
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            frames = [f for p in container.demux(stream) if p.size for f in decoder.decode(p)]
        else:
            frames = list(container.decode(video=0))
    out = frames[0].to_ndarray(format="rgba").astype(int)
    assert np.abs(out[30, 40] - (199, 0, 0, 128)).max() <= 8
    assert np.abs(out[50, 60] - (0, 200, 0, 255)).max() <= 8
    assert out[5, 5, 3] <= 2


def test_bleeding_fills_the_rim_only() -> None:
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[16:48, 16:48] = (150, 90, 30, 255)
    out = bleed(rgba)
    assert np.abs(out[30, 14].astype(int) - (150, 90, 30, 0)).max() <= 1
    assert out[30, 2].tolist() == [0, 0, 0, 0]
    assert np.array_equal(out[16:48, 16:48], rgba[16:48, 16:48])


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000, 96_000])
def test_sound_of_any_rate(tmp_path: Path, rate: int) -> None:
    recorder = Recorder(tmp_path / "a.mp4", FilmSpec(128, 96, "Tiny", audio_rate=rate, audio_channels=2))
    for k in range(30):
        recorder.write_frame(picture(k))
    t = np.arange(rate) / rate
    both = np.stack([0.4 * np.sin(2 * np.pi * 440 * t), np.zeros(rate)], 1).astype(np.float32)
    for start in range(0, rate, 999):
        recorder.write_audio(both[start : start + 999])
    with av.open(str(recorder.close())) as container:
        stream = container.streams.audio[0]
        sound = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], 1)
        seconds = sound.shape[1] / stream.rate
    assert seconds == pytest.approx(1, abs=0.15)
    middle = sound[:, stream.rate // 4 : stream.rate * 3 // 4]
    peak = np.argmax(np.abs(np.fft.rfft(middle[0]))) * stream.rate / middle.shape[1]
    assert peak == pytest.approx(440, abs=4)
    assert np.abs(middle[1]).max() < 0.05


def test_what_cannot_be_recorded_is_refused_at_once(tmp_path: Path) -> None:
    for path, spec, words in (
        (tmp_path / "a.avi", SPEC, "expected .mp4"),
        (tmp_path / "no" / "a.mp4", SPEC, "does not exist"),
        (tmp_path / "a.mp4", FilmSpec(127, 96, "x"), "must be even"),
    ):
        with pytest.raises(OutputError, match=words):
            Recorder(path, spec)
    recorder = Recorder(tmp_path / "a.mp4", SPEC)
    with pytest.raises(OutputError, match="does not fit 128x96"):
        recorder.write_frame(np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(OutputError, match="2 channels, expected 1"):
        recorder.write_audio(np.zeros((5, 2), np.float32))
    with pytest.raises(OutputError, match="nothing was recorded"):
        recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_giving_up_leaves_the_old_film(tmp_path: Path) -> None:
    old = record(tmp_path / "film.mp4", 3).read_bytes()
    recorder = Recorder(tmp_path / "film.mp4", SPEC)
    recorder.write_frame(picture(0))
    recorder.abort()
    assert (tmp_path / "film.mp4").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1


def test_two_recordings_do_not_overwrite_each_other(tmp_path: Path) -> None:
    one, two = Recorder(tmp_path / "film.mp4", SPEC), Recorder(tmp_path / "film.mp4", SPEC)
    assert one.partial != two.partial
    one.abort()
    two.abort()


def playable_frames(path: Path) -> int:
    """Frames that a player shows; the last fragment may be cut in the middle."""
    frames = 0
    with av.open(str(path)) as container, contextlib.suppress(av.FFmpegError):
        for _ in container.decode(video=0):
            frames += 1
    return frames


def test_a_film_whose_sound_never_comes_still_grows(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "film.mp4", SPEC)
    for k in range(120):
        recorder.write_frame(np.random.default_rng(k).integers(0, 255, (96, 128, 3), np.uint8))
    assert recorder.partial.stat().st_size > 100_000
    with av.open(str(recorder.close())) as container:
        assert container.streams.audio[0].duration * container.streams.audio[0].time_base > 2


KILLED = """
import os, sys, numpy as np
from engine.outputs.recorder import FilmSpec, Recorder
recorder = Recorder(sys.argv[1], FilmSpec(128, 96, "Tiny"))
rng = np.random.default_rng(0)
for k in range(240):
    recorder.write_frame(rng.integers(0, 255, (96, 128, 3), np.uint8))
    recorder.write_audio(np.zeros(533, np.float32))
os.kill(os.getpid(), 9)
"""


def test_a_killed_recording_still_plays(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "film.mp4")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "film.mp4").exists()
    assert playable_frames(tmp_path / "film.partial.mp4") >= 120


FULL = """
import resource, signal, sys, numpy as np
from engine.errors import OutputError
from engine.outputs.recorder import FilmSpec, Recorder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
recorder = Recorder(sys.argv[1], FilmSpec(128, 96, "Tiny"))
rng = np.random.default_rng(0)
try:
    for k in range(2000):
        recorder.write_frame(rng.integers(0, 255, (96, 128, 3), np.uint8))
        recorder.write_audio(np.zeros(533, np.float32))
    recorder.close()
except OutputError as error:
    recorder.abort(keep=True)
    print(error)
    sys.exit(7)
"""


def test_a_full_disk_is_said_and_what_was_written_plays(tmp_path: Path) -> None:
    """A limit on the file's size stands for the full disk: the system refuses the write in the same place."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1_500_000
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "film.mp4")], check=False, capture_output=True, text=True
    )
    assert done.returncode == 7, done.stderr
    assert "film.mp4" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not (tmp_path / "film.mp4").exists()
    assert playable_frames(tmp_path / "film.partial.mp4") >= 30


def test_yuv_is_the_right_size() -> None:
    assert to_yuv(np.zeros((96, 128, 3), np.uint8)).shape == (144, 128)
    assert os.cpu_count()
