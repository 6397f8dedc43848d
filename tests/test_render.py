"""`render` from the command line and from Python: frame k shows what is said at k/30 s, and failures leave
nothing behind.
"""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import packs
import pytest
import safetensors.numpy

from engine.__main__ import COMMANDS, main
from engine.animator import Animator
from engine.avatar import open_avatar
from engine.controls import Controls
from engine.errors import OutputError
from engine.film import render
from engine.film_files import Film, FilmFiles
from engine.outputs import recorder as recorder_module

RATE = 16_000


def speech(path: Path, seconds: float = 2.0, rate: int = RATE) -> Path:
    """Tone from 0.5 to 1.0 s and from 1.5 to 2.0 s, silence else."""
    t = np.arange(int(seconds * rate)) / rate
    sound = (0.3 * np.sin(2 * np.pi * 200 * t) * (t % 1 >= 0.5)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le" if path.suffix == ".wav" else "flac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def run(*words: object) -> int:
    return main(["render", *map(str, words)])


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def mouth_darkness(frames: np.ndarray) -> np.ndarray:
    size = frames.shape[1]
    patch = frames[:, int(size * 0.6) : int(size * 0.66), int(size * 0.47) : int(size * 0.53), 1]
    return 255 - patch.mean((1, 2))


def test_the_mouth_opens_when_the_sound_does(
    tiny_pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = speech(tmp_path / "a.wav", 2.0)
    assert run(sound, tmp_path / "a.mp4", "--avatar", tiny_pack, "--idle", 0) == 0
    out = capsys.readouterr().out
    assert "60 frames, 2.0 s of film" in out
    assert "times real time" in out
    frames = decode(tmp_path / "a.mp4")
    assert frames.shape == (60, 128, 128, 3)
    dark = mouth_darkness(frames)
    moments = np.arange(60) / 30
    level = (dark.min() + dark.max()) / 2
    opening = moments[1:][(dark[1:] > level) & (dark[:-1] <= level)]
    assert opening == pytest.approx([0.5, 1.5], abs=0.04)
    with av.open(str(tmp_path / "a.mp4")) as container:
        track = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
        rate = container.streams.audio[0].rate
    heard = np.flatnonzero(np.abs(track) > 0.1) / rate
    assert heard[0] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("still", [False, True])
def test_heads_between_two_drawn_ones_stand_where_they_should(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, still: bool
) -> None:
    """Films take most heads from between two others, where that cannot be told from drawing each."""
    drawn: dict[str, list[np.ndarray]] = {"quick": [], "exact": []}
    write = FilmFiles.write
    sound = speech(tmp_path / "a.wav", 2.0)
    for name, frames in drawn.items():
        with monkeypatch.context() as patch:
            patch.setattr(FilmFiles, "write", lambda self, d, f=frames: (f.append(d.rgba), write(self, d))[1])
            if name == "exact":
                patch.setattr("engine.film_line._steady", lambda motions: False)
            asked = ["--avatar", tiny_pack, "--backend", "openvino", "--idle", 0 if still else 1.5]
            assert run(sound, tmp_path / f"{name}.mp4", *asked) == 0
    quick, exact = (np.stack(frames).astype(float) for frames in drawn.values())
    error = np.abs(quick - exact)
    if still:
        assert error.max() <= 1
    else:
        moved = np.abs(np.diff(exact, axis=0)).mean()
        assert 0 < error.mean() < 0.5 * moved  # some are indeed made otherwise, and nearer than the next frame is
        assert np.square(error).mean((1, 2, 3)).max() < 255**2 / 10**4.2  # 42 dB


def test_frames_equal_the_animators(tiny_pack: Path, tmp_path: Path) -> None:
    """Parallel drawing is only quicker: the lossless frames are those that one animator draws one by one."""
    sound = speech(tmp_path / "a.wav", 1.0)
    options = ["--emotion", "happy=0.8", "--pose", "yaw=8", "--seed", "3", "--person", "chen", "--frames"]
    assert run(sound, tmp_path / "a.mp4", "--avatar", tiny_pack, *options, tmp_path / "png") == 0
    files = sorted((tmp_path / "png").glob("*.png"))
    assert len(files) == 30
    expression = safetensors.numpy.load_file(tmp_path / "png" / "expression.safetensors")["expression"]
    assert expression.shape == (30, 60)
    animator = Animator(open_avatar(tiny_pack), "chen", seed=3, threads=1)
    from engine.audio.files import read_speech

    animator.push(np.concatenate([read_speech(sound), np.zeros(1600, np.float32)]))
    controls = Controls(emotion=(0, 0, 0, 0.8, 0, 0), pose=(np.radians(8), 0, 0))
    for k, file in enumerate(files):
        frame = animator.next_frame(controls)
        found = cv2.cvtColor(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
        assert np.array_equal(found, frame.straight()), k
        assert np.allclose(expression[k], frame.expression, atol=1e-6)


def test_curves_replace_every_motion(tiny_pack: Path, tmp_path: Path) -> None:
    n = 40
    rng = np.random.default_rng(0)
    curves = {
        "emotion": np.zeros((n, 6)),
        "pose": rng.normal(0, 0.1, (n, 3)),
        "shift": np.zeros((n, 3)),
        "gaze": np.zeros((n, 2)),
    }
    curves = {name: value.astype(np.float32) for name, value in curves.items()}
    curves["blink"] = (np.arange(n) % 2).astype(np.float32)
    safetensors.numpy.save_file(curves, tmp_path / "curves.safetensors")
    sound = speech(tmp_path / "a.wav", 1.0)  # shorter than the curves, which decide
    words = ["--avatar", tiny_pack, "--curves", tmp_path / "curves.safetensors", "--frames", tmp_path / "png"]
    assert run(sound, tmp_path / "a.mp4", *words) == 0
    expression = safetensors.numpy.load_file(tmp_path / "png" / "expression.safetensors")["expression"]
    assert expression[:, packs.BLINK_L].tolist() == (np.arange(n) % 2).tolist()
    assert len(decode(tmp_path / "a.mp4")) == n


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("gaze"), "gaze: expected finite floats"),
        (
            lambda c: c.update(pose=np.zeros((40, 2), np.float32)),
            r"pose: expected finite floats \[n, 3\], found float32 \[40, 2\]",
        ),
        (lambda c: c.update(blink=np.zeros(39, np.float32)), "different lengths"),
        (lambda c: c["shift"].fill(np.nan), "shift: expected finite"),
        (lambda c: c.update(emotion=np.zeros((40, 6), np.int32)), "found int32"),
    ],
)
def test_bad_curves(tiny_pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change, words: str) -> None:  # type: ignore[no-untyped-def]
    curves = {
        name: np.zeros((40, size), np.float32)
        for name, size in (("emotion", 6), ("pose", 3), ("shift", 3), ("gaze", 2))
    }
    curves["blink"] = np.zeros(40, np.float32)
    change(curves)
    safetensors.numpy.save_file(curves, tmp_path / "c.safetensors")
    assert (
        run(
            speech(tmp_path / "a.wav"),
            tmp_path / "a.mp4",
            "--avatar",
            tiny_pack,
            "--curves",
            tmp_path / "c.safetensors",
        )
        == 1
    )
    import re

    assert re.search(words, capsys.readouterr().err)


def test_camera_size_background_and_length(tiny_pack: Path, tmp_path: Path) -> None:
    sound = speech(tmp_path / "a.flac", 2.0, 44_100)
    words = [
        "--camera-size",
        "320x180",
        "--background",
        "#203040",
        "--seconds",
        0.7,
        "--mirror",
        "--framing",
        "zoom=0.8",
    ]
    assert run(sound, tmp_path / "a.mp4", "--avatar", tiny_pack, *words) == 0
    frames = decode(tmp_path / "a.mp4")
    assert frames.shape == (21, 180, 320, 3)
    assert np.abs(frames[:, 5, 5].astype(int) - (0x20, 0x30, 0x40)).max() <= 4
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(0.7, abs=0.07)


def test_size_scales(tiny_pack: Path, tmp_path: Path) -> None:
    assert (
        run(speech(tmp_path / "a.wav"), tmp_path / "a.mp4", "--avatar", tiny_pack, "--size", 64, "--seconds", 0.3) == 0
    )
    assert decode(tmp_path / "a.mp4").shape == (9, 64, 64, 3)


def test_alpha_film_beside(tiny_rgba_pack: Path, tmp_path: Path) -> None:
    words = ["--alpha", tmp_path / "a.mov", "--seconds", 0.2]
    assert run(speech(tmp_path / "a.wav"), tmp_path / "a.mp4", "--avatar", tiny_rgba_pack, *words) == 0
    with av.open(str(tmp_path / "a.mov")) as container:
        frames = [f.to_ndarray(format="rgba") for f in container.decode(video=0)]
    assert len(frames) == 6
    assert frames[0][64, 64, 3] > 250
    assert frames[0][2, 2, 3] < 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.wav", "a.mp4"], "gone.wav: no such file"),
        (["a.wav", "a.avi"], "must be named"),
        (["talk.mp4", "talk.mp4"], "is the speech itself"),
        (["a.wav", "a.mp4", "--size", "0"], "must be even"),
        (["a.wav", "no/a.mp4"], "does not exist"),
        (["a.wav", "a.mp4", "--emotion", "joy"], "emotion 'joy' is unknown"),
        (["a.wav", "a.mp4", "--pose", "yaw=90"], "at most 25"),
        (["a.wav", "a.mp4", "--person", "eve"], "no person 'eve'"),
        (["a.wav", "a.mp4", "--background", "gone.jpg"], "no such picture"),
        (["a.wav", "a.mp4", "--alpha", "a.gif"], "expected .mov or .webm"),
        (["a.wav", "a.mp4", "--size", "63"], "must be even"),
        (["a.wav", "a.mp4", "--camera-size", "big"], "expected WIDTHxHEIGHT"),
        (["a.wav", "a.mp4", "--camera-size", "320x180", "--size", "64"], "exclude each other"),
        (["a.wav", "a.mp4", "--seconds", "-1"], "expected more than 0"),
        (["a.wav", "a.mp4", "--backend", "abacus"], "back end 'abacus' is unknown"),
        (["a.wav", "a.mp4", "--idle", "9"], "idle 9 is out of range"),
        (["a.wav", "a.mp4", "--frames", "full"], "not empty"),
        (["a.wav", "a.mp4", "--avatar", "nowhere"], "not an avatar pack"),
        (["a.wav", "a.mp4", "--curves", "gone"], "cannot be read"),
        (["mute.wav", "a.mp4"], "mute.wav"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_wishes_give_one_line(
    tiny_pack: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    speech(tmp_path / "a.wav", 0.3)
    (tmp_path / "mute.wav").write_bytes(b"RIFF")
    (tmp_path / "talk.mp4").write_bytes(b"x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    avatar = [] if "--avatar" in words else ["--avatar", str(tiny_pack)]
    assert main(["render", *words, *avatar]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.startswith("mouthpiece: ")
    assert told.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_on_the_way_leaves_nothing(tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder fails at frame 20, as on a full disk: no film, no pictures, no parts of them; an old film stays."""
    (tmp_path / "a.mp4").write_bytes(b"the old film")
    real, count = recorder_module.Recorder.write_yuv, 0

    def fails(self: recorder_module.Recorder, picture: np.ndarray, index: int | None = None) -> None:
        nonlocal count
        count += 1
        if count == 20:
            raise OutputError("No space left on device")
        real(self, picture, index)

    monkeypatch.setattr(recorder_module.Recorder, "write_yuv", fails)
    film = Film(
        speech(tmp_path / "a.wav"), tmp_path / "a.mp4", (128, 128), frames=tmp_path / "png", alpha=tmp_path / "a.mov"
    )
    with pytest.raises(OutputError, match="No space"):
        render(open_avatar(tiny_pack), film)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "a.wav"]
    assert (tmp_path / "a.mp4").read_bytes() == b"the old film"


def test_progress_is_told(tiny_pack: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    film = Film(speech(tmp_path / "a.wav", 1.0), tmp_path / "a.mp4", (128, 128))
    done = render(open_avatar(tiny_pack), film, lambda done, total: told.append((done, total)))
    assert done.frames == 30
    assert told[-1] == (30, 30)
    assert [d for d, _ in told] == list(range(1, 31))


def test_the_command_line_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)
    assert main(["dance"]) == 2
    assert capsys.readouterr().err == f"mouthpiece: unknown command 'dance'; choose {', '.join(COMMANDS)}\n"
