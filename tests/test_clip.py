"""The clip format: what is written comes back, and nothing half-written or changed passes for a clip."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.data.clip import (
    Clip,
    ClipError,
    ClipInfo,
    Corpus,
    Truth,
    add_pixels,
    read_audio,
    read_clip,
    write_clip,
)

FRAMES = 12


def some_truth(frames: int = FRAMES) -> Truth:
    rng = np.random.default_rng(3)
    arrays = {
        name: (rng.integers(-1, 2, (frames, *tail)).astype(np.int16) if name == "phone"
               else rng.normal(0, 1, (frames, *tail)).astype(np.float32))
        for name, tail in Truth.SHAPES.items()
    }  # fmt: skip
    return Truth(**arrays)


def some_info(**changes) -> ClipInfo:
    plain = {
        "id": "00001_ada_flite-slt_own_00001", "person": "Ada", "voice": "flite-slt", "sentence": "own_00001",
        "split": "train", "source": "rig", "real_voice": False, "frames": FRAMES, "size": 128,
        "phones": [("sil", 0.0, 0.2), ("M", 0.2, 0.4)], "script": [(0.0, "happy", 0.8)],
    }  # fmt: skip
    return ClipInfo(**{**plain, **changes})


def some_audio() -> np.ndarray:
    return (0.3 * np.sin(np.arange(6400) * 0.2)).astype(np.float32)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "corpus.json").write_text(json.dumps({"format": "mouthpiece-corpus/1"}))
    write_clip(tmp_path, some_info(), some_audio(), some_truth())
    return tmp_path


def the_clip(corpus: Path) -> Clip:
    return next(iter(Corpus(corpus)))


def test_a_clip_comes_back_as_it_was_written(corpus: Path):
    clip = the_clip(corpus)
    assert clip.info == some_info(digests=clip.info.digests)
    assert set(clip.info.digests) == {"audio.flac", "truth.safetensors"}
    clip.verify()
    truth = clip.truth()
    for name in Truth.SHAPES:
        np.testing.assert_array_equal(getattr(truth, name), getattr(some_truth(), name))
    assert truth.phone.dtype == np.int16
    np.testing.assert_allclose(clip.audio(), some_audio(), atol=1 / 32767)


def test_a_changed_file_is_noticed(corpus: Path):
    clip = the_clip(corpus)
    with (clip.folder / "audio.flac").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ClipError, match=r"audio\.flac: missing or changed"):
        clip.verify()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("pose", np.zeros((FRAMES, 2), np.float32), "expected shape"),
        ("blink", np.zeros(FRAMES + 1, np.float32), "expected shape"),
        ("gaze", np.full((FRAMES, 2), np.nan, np.float32), "not finite"),
    ],
)
def test_wrong_truth_is_not_written(tmp_path: Path, field: str, value: np.ndarray, words: str):
    with pytest.raises(ClipError, match=words):
        write_clip(tmp_path, some_info(), some_audio(), replace(some_truth(), **{field: value}))
    assert not list(tmp_path.rglob("clip.json"))


def test_a_truncated_truth_says_what_to_do(corpus: Path):
    path = the_clip(corpus).folder / "truth.safetensors"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ClipError, match="make the clip again"):
        the_clip(corpus).truth()


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not a mouthpiece-clip/1"), ('{"format": "mouthpiece-clip/9"}', "not a mouthpiece-clip/1")],
)
def test_a_foreign_clip_json_is_one_line(corpus: Path, text: str, words: str):
    folder = the_clip(corpus).folder
    (folder / "clip.json").write_text(text)
    with pytest.raises(ClipError, match=words) as caught:
        read_clip(folder)
    assert "\n" not in str(caught.value)


def test_ids_cannot_leave_the_corpus():
    with pytest.raises(ValueError, match="id"):
        some_info(id="../outside")


def test_a_corpus_shows_finished_clips_only(corpus: Path):
    (corpus / "clips" / ".00002.77.tmp").mkdir()
    write_clip(corpus, some_info(id="00000_other", split="test"), some_audio(), some_truth())
    assert [clip.info.id for clip in Corpus(corpus)] == ["00000_other", some_info().id]
    assert [clip.info.id for clip in Corpus(corpus).split("test")] == ["00000_other"]
    with pytest.raises(ClipError, match="unknown split"):
        Corpus(corpus).split("training")


def test_a_folder_that_is_no_corpus(tmp_path: Path):
    with pytest.raises(ClipError, match=r"expected a corpus folder with corpus\.json"):
        Corpus(tmp_path)
    (tmp_path / "corpus.json").write_text('{"format": "other/1"}')
    with pytest.raises(ClipError, match="expected format mouthpiece-corpus/1"):
        Corpus(tmp_path)


def test_pixels_count_only_once_clip_json_names_them(corpus: Path, tmp_path: Path):
    clip = the_clip(corpus)
    (clip.folder / "rgb.mp4").write_bytes(b"left by a killed run")
    (clip.folder / "alpha.mp4").write_bytes(b"left by a killed run")
    assert not the_clip(corpus).has_pixels()
    files = {name: tmp_path / f"new-{name}" for name in ("rgb.mp4", "alpha.mp4")}
    for path in files.values():
        path.write_bytes(b"whole")
    add_pixels(clip, files)
    assert the_clip(corpus).has_pixels()
    the_clip(corpus).verify()


def test_sound_that_cannot_be_read(tmp_path: Path):
    path = tmp_path / "noise.flac"
    path.write_bytes(b"not sound at all" * 20)
    with pytest.raises(ClipError, match=r"noise\.flac: (cannot read|holds no) sound"):
        read_audio(path)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path):
    disk = tmp_path / "small"
    disk.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)], capture_output=True
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(ClipError, match="the disk is full; free some space"):
            write_clip(disk, some_info(frames=4000), np.tile(some_audio(), 40), some_truth(4000))
        assert not list((disk / "clips").iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)
