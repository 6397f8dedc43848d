"""The corpus command: what it makes is true, can be drawn again, survives a kill, and says clearly what is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs scipy (extra: train)")
pytest.importorskip("numba", reason="needs numba (extra: train)")

from training.data.clip import FPS, Corpus, Truth, read_clip, write_flac
from training.rig.corpus import Options, main
from training.rig.plan import Folder, _Deck, held_people, open_folders, slots, split_of
from training.rig.speech import Recording, SpeechError, synthesise
from training.rig.voices import HELD_VOICE, SYNTHETIC

if not shutil.which("flite"):
    pytest.skip("needs flite (apt install flite)", allow_module_level=True)


def have_pack() -> str:
    from training.rig.pack import HeadPackError, load_pack

    try:
        load_pack()
    except HeadPackError as error:
        return str(error)
    return ""


needs_pack = pytest.mark.skipif(bool(have_pack()), reason=have_pack() or "head pack")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A corpus of one person and a few seconds with pixels at 128."""
    if reason := have_pack():
        pytest.skip(reason)
    out = tmp_path_factory.mktemp("corpus") / "drawn"
    options = Options(out, people=1, minutes=0.04, size=128, speech="none", workers=1)
    assert main(options) == 0
    return out


@pytest.fixture(scope="module")
def dressed(drawn: Path):
    """A renderer of the corpus's size, already dressed as its person."""
    from training.rig.drawing import SUPERSAMPLE, person_of
    from training.rig.renderer import Renderer

    renderer = Renderer(128, SUPERSAMPLE)
    renderer.set_person(person_of(next(iter(Corpus(drawn)))))
    return renderer


@pytest.fixture(scope="module")
def read_aloud(tmp_path_factory) -> Path:
    """A speech folder: `reader` with four right transcripts and a wrong one, `foreign` with none that fit."""
    root = tmp_path_factory.mktemp("speech")
    texts = ["Please be patient while the movie loads.", "Give me a moment to find the proper page.",
             "Every April we paint the bathroom pink.", "My mother baked a plum pie."]  # fmt: skip
    for name, lines in (("reader", [*texts, "Nobody ever said this in the valley."]), ("foreign", texts[::-1])):
        folder = root / name
        folder.mkdir()
        for k, text in enumerate(texts):
            write_flac(folder / f"{name}{k}.flac", synthesise(SYNTHETIC["flite-slt"], text).audio)
        if name == "reader":
            shutil.copy(folder / "reader0.flac", folder / "reader4.flac")
        rows = [f"{name}{k}\t{line}" for k, line in enumerate(lines)]
        (folder / "transcripts.tsv").write_text("\n".join(rows) + "\n")
    return root


@needs_pack
def test_a_corpus_has_everything_it_promises(drawn: Path):
    corpus = Corpus(drawn)
    about = corpus.about
    clips = list(corpus)
    assert about["clips"] == len(clips) >= 1
    assert about["minutes"] * 60 == pytest.approx(sum(c.info.frames for c in clips) / FPS, abs=0.7)
    assert about["minutes"] >= 0.04
    for clip in clips:
        clip.verify()
        assert clip.has_pixels()
        truth = clip.truth()
        assert len(clip.audio()) * FPS // 16000 == clip.info.frames
        assert truth.phone.max() < len(clip.info.phones)
    report = (drawn / "report.html").read_text()
    assert clips[0].info.person in report
    assert (drawn / "contact_sheet.jpg").stat().st_size > 10_000
    assert not list(drawn.glob(".*"))


@needs_pack
def test_frames_are_drawn_again_the_same(drawn: Path, dressed, tmp_path: Path):
    """From clip.json, truth and the person alone, without sound or the plan."""
    from training.rig.drawing import read_pixels, render_clip

    clip = next(iter(Corpus(drawn)))
    elsewhere = tmp_path / "clips" / clip.info.id
    elsewhere.mkdir(parents=True)
    for name in ("clip.json", "truth.safetensors"):
        shutil.copy(clip.folder / name, elsewhere)
    shutil.copytree(drawn / "people", tmp_path / "people")
    stored = list(read_pixels(clip))
    assert len(stored) == clip.info.frames
    first, second = render_clip(clip, dressed), render_clip(read_clip(elsewhere))
    for k in range(5):
        frame, again = next(first), next(second)
        np.testing.assert_array_equal(frame, again)
        seen = frame[..., 3] > 250
        assert np.percentile(np.abs(frame[..., 3].astype(int) - stored[k][..., 3]), 99.5) <= 8
        assert np.abs(frame[..., :3].astype(int) - stored[k][..., :3])[seen].mean() < 3


@needs_pack
def test_landmarks_sit_on_the_face(drawn: Path, dressed):
    """Around the mouth the picture is lip-red, brows are darker than the forehead, the chin's outline ends the face."""
    from training.rig.drawing import render_clip

    clip = next(iter(Corpus(drawn)))
    truth = clip.truth()
    for k, frame in zip(range(3), render_clip(clip, dressed)):
        points = truth.landmarks[k]
        rows, columns = points[:, 1].astype(int), points[:, 0].astype(int)
        cover = cv2.dilate(frame[..., 3], np.ones((3, 3)))
        assert (cover[rows, columns] > 200).all(), "every landmark lies on the head"
        colour = frame[..., :3].astype(float)
        redness = colour[..., 0] - colour[..., 1]
        lip = points[57] * 0.5 + points[66] * 0.5  # the middle of the lower lip
        chin = points[8] * 0.6 + points[57] * 0.4
        assert redness[int(lip[1]), int(lip[0])] > redness[int(chin[1]), int(chin[0])] - 4
        assert points[8, 1] > points[57, 1] > points[33, 1] > points[27, 1] > points[19, 1]
        assert points[45, 0] > points[36, 0]


@needs_pack
def test_no_fringe_over_black_or_green(drawn: Path, dressed):
    """At the silhouette a composite lies between person and background: no dark or bright rim of its own."""
    from training.rig.drawing import render_clip

    frame = next(render_clip(next(iter(Corpus(drawn))), dressed)).astype(float)
    colour, cover = frame[..., :3], frame[..., 3:] / 255
    edge = (cover[..., 0] > 0.05) & (cover[..., 0] < 0.95)
    assert edge.sum() > 50
    solid = np.where(cover > 0.98, colour, np.nan)
    padded = np.pad(solid, ((3, 3), (3, 3), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(0, 1))
    known = edge & (~np.isnan(windows[..., 0, :, :])).any((-1, -2))
    low, high = np.nanmin(windows[known], axis=(-1, -2)), np.nanmax(windows[known], axis=(-1, -2))
    for background in (np.zeros(3), np.array([0.0, 255.0, 0.0])):
        composite = (colour * cover + background * (1 - cover))[known]
        least, most = np.minimum(low, background), np.maximum(high, background)
        outside = np.maximum(np.maximum(least - composite, composite - most), 0).max(-1)
        assert np.percentile(outside, 95) < 25


@needs_pack
def test_a_killed_run_goes_on_without_losing_or_repeating(tmp_path: Path):
    arguments = ["--people", "2", "--minutes", "0.35", "--size", "128", "--pixels", "none", "--workers", "1"]
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "training.rig.corpus", str(killed), "--speech", "none", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and len(list(killed.glob("clips/0*"))) < 2:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {p.name: p.stat().st_mtime_ns for p in killed.glob("clips/0*")}
    assert before
    (killed / "clips" / ".half.1.tmp").mkdir(exist_ok=True)
    options = {"people": 2, "minutes": 0.35, "size": 128, "pixels": "none", "speech": "none", "workers": 1}
    assert main(Options(killed, **options)) == 0
    assert main(Options(tmp_path / "straight", **options)) == 0
    one, other = Corpus(killed), Corpus(tmp_path / "straight")
    assert one.ids() == other.ids()
    assert set(before) <= set(one.ids())
    for clip, same in zip(one, other):
        assert clip.info == same.info
    untouched = {p.name: p.stat().st_mtime_ns for p in killed.glob("clips/0*")}
    assert all(untouched[name] == stamp for name, stamp in before.items())
    assert not list((killed / "clips").glob(".*"))


def test_progress_is_told_in_lines_where_there_is_no_terminal(capsys, monkeypatch):
    from training.rig import progress

    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with progress.progress_bar() as bar:
        task = bar.add_task("frames", total=4, note="")
        bar.advance(task)
        bar.update(task, completed=3)
    said = capsys.readouterr().out
    assert "frames: 1 of 4" in said
    assert "frames: 3 of 4" in said


@needs_pack
def test_other_settings_are_refused(drawn: Path, capsys):
    assert main(Options(drawn, people=3, size=128, speech="none")) == 2
    assert "use the same arguments to go on, or another folder" in capsys.readouterr().err


@needs_pack
def test_a_wrong_transcript_is_left_out_and_the_rest_goes_on(read_aloud: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    options = Options(out, people=1, minutes=1.0, size=128, pixels="none", speech=str(read_aloud), workers=1)
    assert main(options) == 1
    errors = capsys.readouterr().err.strip().splitlines()
    left_out = [line for line in errors if "left out" in line]
    assert len(left_out) == 1
    assert "reader4.flac: the transcript does not match" in left_out[0]
    assert not any("Traceback" in line for line in errors)
    clips = list(Corpus(out))
    assert any(clip.info.real_voice for clip in clips)
    assert not any(clip.info.sentence == "reader4" for clip in clips)
    assert len((out / "audio_only.txt").read_text().splitlines()) == 4  # the foreign folder


def test_bad_inputs_are_one_line(tmp_path: Path, capsys):
    def line_of(options: Options) -> str:
        assert main(options) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        return lines[0]

    assert "no head pack at" in line_of(Options(tmp_path / "a", head_pack=tmp_path / "nowhere.npz"))
    assert "--minutes: expected at least" in line_of(Options(tmp_path / "a", minutes=0))
    assert "expected a corpus folder" in line_of(Options(tmp_path / "a", rerender=True))
    assert not (tmp_path / "a").exists()


@needs_pack
def test_a_missing_speech_folder_is_one_line_without_traceback(tmp_path: Path):
    command = [sys.executable, "-m", "training.rig.corpus", str(tmp_path / "b"), "--pixels", "none"]
    done = subprocess.run([*command, "--speech", str(tmp_path / "gone")], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("corpus: ")
    assert "no such folder; expected recordings" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def some_people():
    from training.rig.person import cast

    return cast(24, 0)


def some_folder(count: int = 40) -> Folder:
    names = [f"arctic_b{k:04d}" for k in range(480, 480 + count)]
    return Folder("reader", [Recording(n, "Some words to say.", Path(f"{n}.opus")) for n in names], 180.0)


def test_the_plan_is_balanced_and_keeps_its_promises():
    people, folder = some_people(), some_folder()
    plan = [slot for slot, _ in zip(slots(people, [folder], 0), range(600))]
    again = [slot for slot, _ in zip(slots(people, [folder], 0), range(50))]
    assert [s.id for s in again] == [s.id for s in plan[:50]]
    assert len({s.id for s in plan}) == 600
    assert 0.55 < np.mean([s.voice.real for s in plan]) < 0.72
    counts = [sum(s.person == p.name for s in plan) for p in people]
    assert counts == [25] * 24
    held = held_people(people)
    assert len(held) == 2
    for slot in plan:
        if slot.sentence.startswith("arctic_b05"):
            assert slot.split == "test"
        elif slot.voice.name == HELD_VOICE:
            assert slot.split == "held_voice"
        elif slot.person in held:
            assert slot.split == "held_person"
        else:
            assert slot.split == split_of(slot.sentence)
        man = next(p for p in people if p.name == slot.person).sex == "male"
        assert slot.voice.who in (("man", "child") if man else ("woman", "child"))
    first = [s.sentence for s in plan if s.recording][:40]
    assert len(set(first)) == 40  # each recording once before any comes again


def test_with_own_voices_nobody_speaks_with_another_s():
    people, folder = some_people(), some_folder()
    plan = [slot for slot, _ in zip(slots(people, [folder], 0, own_voices=True), range(600))]
    shared = [slot for slot, _ in zip(slots(people, [folder], 0), range(600))]
    assert [s.person for s in plan] == [s.person for s in shared]
    assert 0.55 < np.mean([s.voice.real for s in plan]) < 0.72
    speakers: dict[str, set[str]] = {}
    throats: dict[tuple[str, float], set[str]] = {}
    for slot in plan:
        assert not slot.plain
        if slot.voice.name != HELD_VOICE:
            speakers.setdefault(slot.voice.name, set()).add(slot.person)
            throats.setdefault((slot.voice.model, slot.voice.formant), set()).add(slot.person)
    assert len(speakers) == 48  # a recorded and a synthetic one each
    assert all(len(found) == 1 for found in [*speakers.values(), *throats.values()])
    women = {s.voice.formant for s in plan if s.voice.real and s.voice.who == "woman"}
    men = {s.voice.formant for s in plan if s.voice.real and s.voice.who == "man"}
    assert min(women) >= max(men)


def test_the_split_hangs_on_the_sentence_alone():
    names = [f"own_{k:05d}" for k in range(2000)]
    shares = {split: sum(split_of(n) == split for n in names) / 2000 for split in ("train", "val", "test")}
    assert shares["train"] == pytest.approx(0.88, abs=0.03)
    assert shares["val"] == pytest.approx(0.06, abs=0.02)
    assert split_of("arctic_b0512") == "test"
    assert split_of(names[7]) == split_of(names[7])


def test_a_deck_deals_all_before_any_twice():
    deck = _Deck(list(range(7)), [1])
    dealt = [deck.deal() for _ in range(21)]
    assert all(sorted(dealt[k : k + 7]) == list(range(7)) for k in (0, 7, 14))
    assert dealt[:7] != dealt[7:14]


def test_folders_that_do_not_fit_their_words_are_for_the_ears_alone(read_aloud: Path):
    folders, unlabelled = open_folders(read_aloud)
    assert [f.name for f in folders] == ["reader"]
    assert folders[0].who == "woman"
    assert {p.parent.name for p in unlabelled} == {"foreign"}
    with pytest.raises(SpeechError, match="no such folder"):
        open_folders(read_aloud / "missing")


def test_truth_and_formats_agree():
    assert {f.name for f in fields(Truth)} == set(Truth.SHAPES)
    text = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    assert all(f"`{name} [n" in text for name in Truth.SHAPES)


@needs_pack
def test_measure_prints_its_figures(drawn: Path, capsys):
    from training.rig.measure import Options as MeasureOptions
    from training.rig.measure import main as measure_main

    assert measure_main(MeasureOptions(drawn)) == 0
    printed = capsys.readouterr().out
    assert "auc closures" in printed
    assert "lag frames" in printed
    assert measure_main(MeasureOptions(drawn, split="held_voice")) in (0, 2)
    assert measure_main(MeasureOptions(drawn.parent)) == 2
    assert json.loads((drawn / "corpus.json").read_text())["clips"] >= 1
