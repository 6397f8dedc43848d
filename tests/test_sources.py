"""Loaders read each data set's official layout, built here file by file."""

from pathlib import Path

import pytest

from training.data.recording import SourceError, split_of
from training.data.sources import find


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_crema_d(tmp_path):
    touch(
        tmp_path, "VideoFlash/1001_DFA_ANG_XX.flv", "VideoFlash/1002_IEO_HAP_HI.flv", "VideoFlash/1003_TSI_NEU_XX.flv"
    )
    touch(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav", "AudioMP3/1001_DFA_ANG_XX.mp3", "VideoFlash/notes.flv", "README.md")
    first, second, third = find(tmp_path)
    assert first.id == "crema-1001_DFA_ANG_XX"
    assert (first.person, first.emotion, first.text) == ("crema-1001", "anger", "Don't forget a jacket.")
    assert first.sound == tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav"
    assert second.sound is None  # then the sound inside the .flv is used
    assert (second.emotion, second.intensity) == ("happy", 1.0)
    assert 0 < first.intensity < second.intensity
    assert (third.emotion, third.intensity) == ("neutral", 0.0)


def test_voxceleb2(tmp_path):
    touch(tmp_path, "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "dev/mp4/id00012/21Uxsk56VDQ/00002.mp4")
    touch(tmp_path, "test/mp4/id00017/01dfn2spqyE/00001.mp4", "dev/aac/id00012/21Uxsk56VDQ/00002.m4a")
    dev1, dev2, test = find(tmp_path)
    assert (dev1.person, dev1.sentence) == ("vox2-id00012", "vox2-id00012-21Uxsk56VDQ")
    assert dev1.sound is None
    assert dev2.sound.name == "00002.m4a"
    assert dev1.split == dev2.split != "held_person"  # one talk never spans two splits
    assert test.split == "held_person"
    assert len({dev1.id, dev2.id, test.id}) == 3


def test_mead(tmp_path):
    touch(tmp_path, "M003/video/front/angry/level_1/001.mp4", "M003/audio/angry/level_1/001.m4a")
    touch(tmp_path, "M003/video/left_30/angry/level_1/001.mp4", "W009/video/front/surprised/level_3/012.mp4")
    touch(tmp_path, "W009/video/front/sad/level_3/012.mp4")
    angry, sad, surprised = find(tmp_path)
    assert (angry.person, angry.emotion, angry.sound.name) == ("mead-M003", "anger", "001.m4a")
    assert (sad.emotion, sad.intensity) == ("sad", 1.0)
    assert angry.intensity < sad.intensity
    assert (surprised.emotion, surprised.intensity) == ("", 0.0)  # not one of the six


def test_hdtf(tmp_path):
    lists = tmp_path / "HDTF_dataset"
    lists.mkdir()
    (lists / "WDA_annotion_time.txt").write_text("AmyKlobuchar1.mp4 00:35-02:45 03:25-04:00\nNotHere.mp4 00:05-00:10\n")
    (lists / "RD_annotion_time.txt").write_text("Radio11.mp4 00:30-01:00 01:02:03-01:03:00\n")
    (lists / "WDA_video_url.txt").write_text("AmyKlobuchar1 https://example.invalid\n")
    touch(tmp_path, "videos/WDA_AmyKlobuchar1.mp4", "videos/Radio11_0.mp4", "videos/Radio11_1.mp4")
    radio0, radio1, amy0, amy1 = find(tmp_path)
    assert (amy0.start_s, amy0.end_s) == (35.0, 165.0)
    assert amy1.start_s == 205.0
    assert amy0.video == amy1.video
    assert amy0.person == "hdtf-AmyKlobuchar"
    assert (radio0.video.name, radio0.start_s, radio0.end_s) == ("Radio11_0.mp4", 0.0, float("inf"))  # is cut already
    assert radio1.video.name == "Radio11_1.mp4"


def test_folder_of_videos(tmp_path):
    touch(tmp_path, "Ann/hello there.MOV", "Ann/hello-there.mp4", "Ben/one.mkv", "Ben/.hidden.mp4", "Ben/one.wav")
    (tmp_path / "Ben/one.txt").write_text("Good morning.\n")
    (tmp_path / "transcripts.tsv").write_text("hello-there.mp4\tHello there.\n")
    found = find(tmp_path)
    assert [r.person for r in found] == ["Ann", "Ann", "Ben"]
    assert len({r.id for r in found}) == 3
    assert [r.text for r in found] == ["", "Hello there.", "Good morning."]
    assert {r.split for r in found} <= {"train", "val", "test"}


def test_one_video(tmp_path):
    touch(tmp_path, "me.mp4", "other.mp4")
    assert [r.video.name for r in find(tmp_path / "me.mp4")] == ["me.mp4"]


@pytest.mark.parametrize(
    ("kind", "says"),
    [("crema-d", "VideoFlash"), ("mead", "level_1"), ("voxceleb2", "id00012"), ("hdtf", "annotion_time")],
)
def test_wrong_layout_says_what_was_expected(tmp_path, kind, says):
    touch(tmp_path, "a.mp4")
    with pytest.raises(SourceError, match=says):
        find(tmp_path, kind)


def test_nothing_there(tmp_path):
    with pytest.raises(SourceError, match="expected a folder of videos"):
        find(tmp_path / "nope")
    with pytest.raises(SourceError, match="no videos found"):
        find(tmp_path)


def test_split_is_fixed_and_about_five_percent():
    splits = [split_of(f"p{k % 400}", f"s{k}", hold_people=True) for k in range(8000)]
    share = {name: splits.count(name) / len(splits) for name in set(splits)}
    assert share["train"] > 0.8
    assert all(0.02 < share[name] < 0.08 for name in ("val", "test", "held_person"))
    assert split_of("crema-1001", "crema-DFA") == split_of("crema-1001", "crema-DFA")
