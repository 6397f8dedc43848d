"""Speech files: any rate, channels and container become the same 16 kHz mono; what cannot be read is said in
one line.
"""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engine.audio import files
from engine.audio.files import SpeechFile, SpeechResampler, read_speech
from engine.errors import AudioError


def tone(rate: int, seconds: float = 1.0, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int, codec: str, layout: str = "mono", first_pts: int = 0) -> Path:
    """Encodes [n] or [channels, n] float samples."""
    planes = np.atleast_2d(samples)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        for start in range(0, planes.shape[1], 1000):
            part = np.ascontiguousarray(planes[:, start : start + 1000])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, first_pts + start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def likeness(found: np.ndarray, expected: np.ndarray) -> float:
    n = min(len(found), len(expected))
    return float(np.corrcoef(found[:n], expected[:n])[0, 1])


@pytest.mark.parametrize(
    ("name", "rate", "codec", "tolerance"),
    [
        ("a.wav", 16_000, "pcm_s16le", 0),
        ("a.wav", 48_000, "pcm_f32le", 1),
        ("a.wav", 8_000, "pcm_s16le", 1),
        ("a.flac", 44_100, "flac", 1),
        ("a.mp3", 44_100, "libmp3lame", 3000),
        ("a.opus", 48_000, "libopus", 400),
        ("a.m4a", 48_000, "aac", 2500),
    ],
)
def test_any_rate_and_codec(tmp_path: Path, name: str, rate: int, codec: str, tolerance: int) -> None:
    found = read_speech(write(tmp_path / name, tone(rate), rate, codec))
    assert found.dtype == np.float32
    assert abs(len(found) - 16_000) <= tolerance
    if tolerance <= 1:  # without loss: every sample is where it was
        assert likeness(found[200:-200], tone(16_000)[200:-200]) > 0.999
    spectrum = np.abs(np.fft.rfft(found[4000:12_000]))
    assert abs(np.argmax(spectrum) * 2 - 440) <= 4


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = np.stack([tone(16_000), 0.2 * tone(16_000)])
    found = read_speech(write(tmp_path / "a.wav", both, 16_000, "pcm_f32le", "stereo"))
    assert np.allclose(found, 0.6 * tone(16_000), atol=1e-3)


def test_blocks_keep_rate_and_channels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.stack([tone(44_100)] * 2), 44_100, "pcm_s16le", "stereo")
    with SpeechFile(path) as file:
        assert (file.rate, file.channels) == (44_100, 2)
        assert file.seconds == pytest.approx(1.0, abs=0.01)
        blocks = list(file.blocks())
    assert sum(len(b) for b in blocks) == 44_100
    assert all(b.shape[1] == 2 for b in blocks)


def test_video_files_give_their_sound(tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=30), container.add_stream("aac", rate=48_000, layout="mono")
        video.width = video.height = 64
        for k in range(30):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 30)
            container.mux(video.encode(frame))
        sound = av.AudioFrame.from_ndarray(tone(48_000)[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 48_000, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
        container.mux(video.encode(None))
    assert abs(len(read_speech(path)) - 16_000) < 1200


def test_seams_of_the_resampler_do_not_show() -> None:
    sound = tone(44_100)[:, None]
    whole = SpeechResampler(44_100)
    once = np.concatenate([whole.push(sound), whole.push(sound[:0], last=True)])
    cut = SpeechResampler(44_100)
    parts = [cut.push(sound[i : i + 777]) for i in range(0, len(sound), 777)]
    pieces = np.concatenate([*parts, cut.push(sound[:0], last=True)])
    assert len(once) == len(pieces)
    assert np.allclose(once, pieces, atol=1e-5)


def test_wild_numbers_are_tamed(tmp_path: Path) -> None:
    wild = tone(16_000)
    wild[100], wild[200], wild[300] = np.nan, np.inf, -50
    found = read_speech(write(tmp_path / "a.wav", wild, 16_000, "pcm_f32le"))
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1


def test_a_hole_in_the_time_stamps_becomes_silence(tmp_path: Path) -> None:
    path = tmp_path / "hole.mka"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for start in (0, 24_000):  # half a second of tone, a second missing, half a second of tone
            for at in range(0, 8000, 800):
                frame = av.AudioFrame.from_ndarray(tone(16_000)[None, at : at + 800], format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 16_000, start + at, Fraction(1, 16_000)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = read_speech(path)
    assert abs(len(found) - 32_000) < 100
    assert np.abs(found[9000:23_000]).max() == 0
    assert np.abs(found[25_000:]).max() > 0.4


def expect_refusal(path: Path, words: str, **more: float) -> None:
    with pytest.raises(AudioError, match=words) as caught:
        read_speech(path, **more)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    expect_refusal(tmp_path / "gone.wav", "no such file")
    expect_refusal(tmp_path, "no such file")
    (tmp_path / "empty.wav").write_bytes(b"")
    expect_refusal(tmp_path / "empty.wav", "not a sound or video file")
    (tmp_path / "text.mp3").write_text("hello " * 1000)
    expect_refusal(tmp_path / "text.mp3", "text.mp3")
    with wave.open(str(tmp_path / "none.wav"), "wb") as none:
        none.setparams((1, 2, 16_000, 0, "NONE", "none"))
    expect_refusal(tmp_path / "none.wav", "none.wav")


def test_a_film_without_sound(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=30)
        video.width = video.height = 64
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(video.encode(frame))
        container.mux(video.encode(None))
    expect_refusal(tmp_path / "mute.mp4", "no sound track")


def test_truncated_and_damaged_files(tmp_path: Path) -> None:
    whole = write(
        tmp_path / "a.flac",
        tone(16_000, 4.0) + np.random.default_rng(0).normal(0, 0.01, 64_000).astype(np.float32),
        16_000,
        "flac",
    )
    data = whole.read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) * 3 // 4])
    assert len(read_speech(tmp_path / "cut.flac")) > 30_000  # what is there is used
    noise = bytearray(data)
    noise[3000 : len(data)] = np.random.default_rng(1).integers(0, 256, len(data) - 3000, np.uint8).tobytes()
    (tmp_path / "noise.flac").write_bytes(noise)
    expect_refusal(tmp_path / "noise.flac", "noise.flac")


def test_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone(16_000, 3.0), 16_000, "pcm_s16le")
    expect_refusal(path, "longer than 0 minutes", limit_seconds=2)
    monkeypatch.setattr(files, "LONGEST_SECONDS", 2)
    expect_refusal(path, "at most")


def test_the_bundled_sample() -> None:
    sample = Path(files.__file__).parent.parent / "assets" / "sample.flac"
    assert sample.stat().st_size < 200_000
    found = read_speech(sample)
    assert 10 < len(found) / 16_000 < 15
    assert 0.3 < np.abs(found).max() < 1
