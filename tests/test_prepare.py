"""prepare from files to clips: good and bad input, resuming, steadiness, a full disk. Faces are discs (films.py)."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from films import DISC_CM, DiscLandmarker, disc_picture, tone, write_film, write_wav

from training.data import prepare as command
from training.data.clip import FPS, RATE, Corpus
from training.data.crop import NECK_AT, cut_square, steady_square
from training.data.cutting import SHOWN_FILE
from training.data.proof import set_turn
from training.data.record import read_outcome
from training.data.video import pictures, probe, sound

SECONDS = 1.4


@pytest.fixture(autouse=True)
def discs_for_faces(monkeypatch):
    monkeypatch.setattr(command, "MediapipeLandmarker", DiscLandmarker)


def film(path: Path, rate=25.0, width=320, height=240, discs=((160, 110, 48),), keep=None, turn=0, **rest) -> Path:
    """A steady disc film with a tone; `keep` drops pictures, `turn` stores it lying."""
    times = np.arange(int(SECONDS * rate)) / rate
    times = times if keep is None else times[keep(len(times))]
    picture = disc_picture(width, height, list(discs))
    rest.setdefault("sound", tone(SECONDS, 48_000, 2))
    write_film(path, [np.rot90(picture, turn)] * len(times), times, **rest)
    if turn:
        set_turn(path, turn)
    return path


def prepare(source: Path, out: Path, **options) -> int:
    return command.main(command.Options(source, out, **{"size": 256, "jobs": 1, "least_seconds": 0.5, **options}))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A folder of good and bad files, prepared once: (exit code, stderr lines, corpus, source folder)."""
    source, out = tmp_path_factory.mktemp("films"), tmp_path_factory.mktemp("corpus")
    film(source / "plain.mp4")
    film(source / "odd-2997.mp4", rate=30000 / 1001, width=321, height=243)
    film(source / "lying.mp4", turn=1)
    film(source / "uneven.mkv", rate=30.0, keep=lambda n: np.random.default_rng(0).random(n) > 0.3)
    film(source / "phone-8k.mp4", sound=tone(SECONDS, 8000, 1), sound_rate=8000)
    film(source / "noface.mp4", discs=())
    film(source / "two.mp4", discs=((90, 110, 48), (230, 110, 46)))
    film(source / "mute.mp4", sound=None)
    film(source / "silent.mp4", sound=np.zeros((2, 67_200), np.float32))
    film(source / "tiny.mp4", discs=((160, 110, 14),))
    (source / "mismatch.txt").write_text("The quick brown fox jumps over the lazy dog.\n")
    film(source / "mismatch.mp4")
    (source / "garbage.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    (source / "empty.mp4").touch()
    whole = film(source / "whole.mp4").read_bytes()
    (source / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (source / "whole.mp4").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "MediapipeLandmarker", DiscLandmarker)
        lines: list[str] = []
        patch.setattr(
            command, "complain", lambda o: lines.append(f"{Path(o.video).name}: {o.reason}") if o.reason else None
        )
        code = prepare(source, out)
    return code, lines, out, source


GOOD = {"plain", "odd-2997", "lying", "uneven", "phone-8k"}


def test_good_files_give_clips_and_bad_ones_a_line_each(mixed):
    code, lines, out, source = mixed
    assert code == 1
    assert set(Corpus(out).ids()) == GOOD
    assert len(lines) == len({line.split(":")[0] for line in lines}) == len(list(source.glob("*.m*"))) - len(GOOD)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("noface", "no face"), ("two", "two faces"), ("mute", "no sound track"), ("silent", "silent"),
        ("tiny", "too small"), ("garbage", "cannot be opened"), ("empty", "cannot be opened"), ("truncated", "cut short"),
    ],
)  # fmt: skip
def test_reason(mixed, name, reason):
    _, lines, out, _ = mixed
    assert any(line.startswith(f"{name}.mp4:") and reason in line for line in lines), lines
    assert read_outcome(out, name).state == "rejected"


def test_transcript_that_does_not_match(mixed):
    pytest.importorskip("pocketsphinx", reason="transcripts are aligned with pocketsphinx (extra: train)")
    assert any(line.startswith("mismatch.mp4:") and "transcript" in line for line in mixed[1])


def test_nothing_half_written(mixed):
    _, _, out, _ = mixed
    assert not list(out.rglob(".*"))
    for clip in Corpus(out):
        clip.verify()
        assert clip.has_pixels()


@pytest.mark.parametrize("name", sorted(GOOD))
def test_clip_is_in_stream_time(mixed, name):
    """30 fps and 16 kHz whatever came in; every frame shows the picture nearest to its time."""
    _, _, out, _ = mixed
    clip = next(c for c in Corpus(out) if c.info.id == name)
    truth = clip.truth()
    assert abs(clip.info.frames / FPS - SECONDS) < 0.12
    assert abs(len(clip.audio()) - clip.info.frames * RATE / FPS) <= 1
    from safetensors.numpy import load_file

    shown = load_file(clip.folder / SHOWN_FILE)["time"]
    wanted = shown[0] + np.arange(clip.info.frames) / FPS
    assert np.abs(shown - wanted).max() < (0.08 if name == "uneven" else 0.021)
    assert np.isfinite(truth.landmarks).all()
    middle = truth.landmarks[:, [36, 45]].mean((0, 1))
    assert 0.4 < middle[0] / 256 < 0.6
    assert 0.3 < middle[1] / 256 < 0.55


def test_report_and_people(mixed):
    _, _, out, source = mixed
    page = (out / "report.html").read_text()
    assert "noface.mp4" in page
    assert "two faces" in page
    assert (out / "contact.jpg").stat().st_size > 1000
    about = json.loads((out / "corpus.json").read_text())
    assert about["clips"] == len(GOOD)
    assert about["people"] == [source.name]


def test_second_run_makes_nothing_again(mixed, monkeypatch):
    code, _, out, source = mixed
    before = {p: p.stat().st_mtime_ns for p in out.glob("clips/*/clip.json")}
    monkeypatch.setattr(command, "ingest", lambda *_: pytest.fail("was prepared again"))
    assert prepare(source, out) == code
    assert {p: p.stat().st_mtime_ns for p in out.glob("clips/*/clip.json")} == before


def test_changed_file_is_made_again(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    film(source / "a.mp4")
    assert prepare(source, out) == 0
    first = (out / "clips/a/clip.json").read_text()
    film(source / "a.mp4", rate=20.0)
    assert prepare(source, out) == 0
    assert (out / "clips/a/clip.json").read_text() != first


def test_killed_run_goes_on(tmp_path):
    """SIGKILL in the middle; the next run keeps what was finished, clears the rest and ends the same as an unbroken one."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for k in range(4):
        film(source / f"f{k}.mp4")
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from films import DiscLandmarker\nfrom pathlib import Path\nfrom training.data import prepare as c\n"
        "c.MediapipeLandmarker = DiscLandmarker\n"
        f"c.main(c.Options(Path({str(source)!r}), Path({str(out)!r}), size=256, jobs=1, least_seconds=0.5))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], cwd=Path(__file__).parent.parent, stdout=subprocess.DEVNULL
    )
    while len(list(out.glob("prepared/*.json"))) < 2 and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = {p: p.stat().st_mtime_ns for p in out.glob("prepared/*.json")}
    assert kept
    assert prepare(source, out) == 0
    assert set(Corpus(out).ids()) == {f"f{k}" for k in range(4)}
    assert all(p.stat().st_mtime_ns == at for p, at in kept.items())
    assert not list(out.rglob(".*"))


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no file size limit on this system")
def test_full_disk(tmp_path, capfd):
    """A limit on file size stands in for a full disk: both fail in write()."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    film(source / "a.mp4")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        code = prepare(source, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert "a.mp4: failed: the disk is full" in capfd.readouterr().err
    assert Corpus(out).ids() == []
    assert not list((out / "clips").iterdir())
    assert prepare(source, out) == 0  # and with room again it is made


def test_scene_cut_makes_two_clips(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    a, b = disc_picture(320, 240, [(120, 110, 48)]), 255 - disc_picture(320, 240, [])
    b[50:170, 170:290] = disc_picture(320, 240, [(230, 110, 48)])[50:170, 170:290]
    times = np.arange(60) / 25
    write_film(source / "cut.mp4", [a] * 30 + [b] * 30, times, tone(2.4, 48_000, 2))
    assert prepare(source, out) == 0
    assert Corpus(out).ids() == ["cut-s0", "cut-s1"]
    assert [n.from_s for n in read_outcome(out, "cut").notes] == [0.0, 1.2]


def test_crema_d_tree(tmp_path):
    """The published layout end to end: Flash video, sound in a file of its own, label and level from the name."""
    source, out = tmp_path / "CREMA-D", tmp_path / "out"
    (source / "VideoFlash").mkdir(parents=True)
    (source / "AudioWAV").mkdir()
    times = np.arange(40) / 30
    picture = disc_picture(320, 240, [(160, 110, 48)])
    write_film(source / "VideoFlash/1001_XYZ_HAP_HI.flv", [picture] * 40, times, codec="flv")
    write_wav(source / "AudioWAV/1001_XYZ_HAP_HI.wav", tone(40 / 30, RATE, 1)[0])
    assert prepare(source, out) == 0
    (clip,) = Corpus(out)
    assert (clip.info.id, clip.info.person, clip.info.source) == (
        "crema-1001_XYZ_HAP_HI", "crema-1001", "crema-d: 1001_XYZ_HAP_HI.flv",
    )  # fmt: skip
    assert (clip.truth().emotion[:, 3] == 1).all()
    assert clip.truth().emotion.sum() == clip.info.frames
    heard, said = clip.audio(), tone(40 / 30, RATE, 1)[0]
    assert np.corrcoef(heard, said[: len(heard)])[0, 1] > 0.999  # starts with the first picture


def test_hdtf_stretch_of_a_long_video(tmp_path):
    """Only the stretch in the list is used, pictures and sound on the same clock."""
    source, out = tmp_path / "HDTF", tmp_path / "out"
    (source / "HDTF_dataset").mkdir(parents=True)
    (source / "HDTF_dataset/RD_annotion_time.txt").write_text("Radio3.mp4 00:02-00:03\n")
    times = np.arange(100) / 25
    picture, other = disc_picture(320, 240, [(160, 110, 48)]), disc_picture(320, 240, [])
    sweep = 0.3 * np.sin(2 * np.pi * np.cumsum(np.linspace(200, 1200, 4 * 48_000)) / 48_000)[None].astype(np.float32)
    write_film(source / "Radio3.mp4", [other] * 50 + [picture] * 50, times, sweep)
    assert prepare(source, out) == 0
    (clip,) = Corpus(out)
    assert (clip.info.id, clip.info.person) == ("hdtf-RD-Radio3-0", "hdtf-Radio")
    assert abs(clip.info.frames / FPS - 1) < 0.1
    assert read_outcome(out, clip.info.id).notes[0].from_s == 2.0
    spectrum = np.abs(np.fft.rfft(clip.audio()[:1600] * np.hanning(1600)))
    assert abs(spectrum.argmax() * 10 - 712) < 20  # the sweep's pitch at 2.05 s


def test_long_scene_becomes_parts_that_join(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    film(source / "a.mp4", sound=tone(SECONDS, 48_000, 2))
    assert prepare(source, out, longest_seconds=0.8, pixels=False) == 0
    parts = list(Corpus(out))
    assert len(parts) >= 2
    whole = sound(source / "a.mp4", 0.0, sum(p.info.frames for p in parts) / FPS)
    joined = np.concatenate([p.audio() for p in parts])
    assert abs(len(joined) - len(whole)) <= len(parts)
    np.testing.assert_allclose(joined[: len(whole) - 4], whole[: len(joined)][: len(whole) - 4], atol=2e-4)
    assert not parts[0].has_pixels()


def test_late_sound_track_is_placed_at_its_time(tmp_path):
    """A sound track whose stamps start 0.3 s after the picture's is silent until then."""
    path = film(tmp_path / "a.mkv", sound=tone(SECONDS, 48_000, 2), sound_late_s=0.3)
    heard = sound(path, 0.0, SECONDS)
    expected = tone(SECONDS, RATE, 1)[0]
    assert np.abs(heard[: int(0.28 * RATE)]).max() < 0.01
    lag = int(0.3 * RATE)
    assert np.corrcoef(heard[lag + 800 :], expected[800 : len(heard) - lag])[0, 1] > 0.98


def test_turned_file_is_upright(tmp_path):
    for turns in (1, 2, 3):
        path = film(tmp_path / f"t{turns}.mp4", discs=((80, 60, 30),), turn=turns)
        info = probe(path)
        assert (info.width, info.height) == (320, 240)
        _, picture = next(pictures(path))
        x, y, w, h = DiscLandmarker().boxes(picture)[0][:4]
        assert abs(x + w / 2 - 80) < 2
        assert abs(y + h / 2 - 60) < 2


def test_square_stands_still_under_a_nodding_head_and_follows_a_walking_one():
    noise = np.random.default_rng(0).normal(0, 0.4, (90, 2))
    nod = steady_square(np.array([300.0, 400.0]) + noise, np.full(90, 12.0) + noise[:, 0] * 0.2, 30)
    assert np.ptp(nod.left) == np.ptp(nod.side) == 0
    walk = np.stack([np.linspace(200, 600, 90), np.full(90, 400.0)], 1) + noise
    follow = steady_square(walk, np.full(90, 12.0), 30)
    assert np.ptp(follow.left) > 200
    assert np.abs(np.diff(follow.left, 2)).max() < 0.5  # no jitter: the noise's would be about 1
    middle = follow.left + NECK_AT[0] * follow.side
    assert np.abs(middle - walk[:, 0])[20:-20].max() < 4


@pytest.mark.parametrize("side", [90.0, 256.0, 900.0])
def test_cut_square_puts_things_where_it_says(side):
    picture = disc_picture(1200, 900, [(600.3, 450.7, side / 6)])
    crop = cut_square(picture, 600.3 - side / 2, 450.7 - side / 2, side, 256)
    x, y, w, h = DiscLandmarker().boxes(crop)[0][:4]
    assert abs(x + w / 2 - 128) < 1
    assert abs(y + h / 2 - 128) < 1
    assert abs(w - 256 / 3) < 4


@pytest.mark.parametrize(
    ("options", "says"),
    [({"least_seconds": 0.1}, "--least-seconds"), ({"kind": "mead"}, "level_1"), ({"source": "nope"}, "found nothing")],
)
def test_bad_arguments_are_refused_at_the_door(tmp_path, capsys, options, says):
    film(tmp_path / "a.mp4")
    source = tmp_path / options.pop("source", ".")
    assert prepare(source, tmp_path / "out", **options) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1


def test_a_folder_that_is_another_corpus_is_left_alone(tmp_path, capsys):
    film(tmp_path / "a.mp4")
    out = tmp_path / "out"
    out.mkdir()
    (out / "corpus.json").write_text('{"format": "mouthpiece-corpus/1", "seed": 3}')
    assert prepare(tmp_path, out) == 2
    assert "did not make" in capsys.readouterr().err
    assert os.listdir(out) == ["corpus.json"]


def test_disc_is_a_head_of_the_right_size():
    """The double is only as good as its scale: its pivot and size are read back from the mesh."""
    from training.data import face

    faces = face.read(DiscLandmarker().mesh(disc_picture(400, 400, [(200, 180, 60)]))[None])
    assert abs(faces.pixels_per_cm[0] - 60 / DISC_CM) < 0.1
    assert np.abs(faces.pose).max() < 0.1
    assert abs(faces.pivot[0, 0] - 200) < 4
