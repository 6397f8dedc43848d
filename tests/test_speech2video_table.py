"""The published table in form: fair figures, budgets named, the paper's own marked as other data; runs of pictures on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.clip import Clip, ClipError, ClipInfo
from training.data.face_runs import FaceRuns, FaceRunsConfig, Run, chosen_runs, load_runs, small
from training.models.speech2video.syncnet import SyncNet, SyncNetConfig
from training.stages.run import StageError
from training.stages.speech2video import load_run, save_strip
from training.stages.syncnet import load_judge
from training.tables.__main__ import PAPER, as_text
from training.tables.drawn import held_stills, images_of
from training.tables.judge import Judge, Row, as_tensor


def runs_of(people: int = 3, frames: int = 8) -> FaceRuns:
    rng = np.random.default_rng(0)
    runs = tuple(Run(f"c{i}", f"P{i}", "v", True, "test", 3) for i in range(people))
    pixels = tuple(rng.integers(0, 255, (frames, 64, 64, 3), dtype=np.uint8) for _ in runs)
    return FaceRuns(runs, pixels, 64, frames)


def judge() -> Judge:
    torch.manual_seed(0)
    sounds = {f"c{i}": torch.randn(13, 300) for i in range(3)}
    boxes = {f"c{i}": np.tile(np.float32([0.5, 0.6, 0.25]), (90, 1)) for i in range(3)}
    return Judge(SyncNet(SyncNetConfig(side=16, width=8, embedding=8)).eval(), 16, sounds, boxes)


def test_truth_is_perfect_and_a_still_is_not() -> None:
    runs = runs_of()
    judged = judge()
    true = [(run, pixels, pixels) for run, pixels in zip(runs.runs, runs.pixels)]
    row = judged.row("truth", "-", 0, true)
    assert row.ssim == pytest.approx(1.0)
    assert row.psnr_db == 100.0
    still = judged.row("still", "a picture", 0, held_stills(runs, False))
    wrong = judged.row("wrong", "a picture", 0, held_stills(runs, True))
    assert still.psnr_db < 30.0  # the first frame is exact, the others are noise here
    assert wrong.ssim < still.ssim < 1.0
    assert wrong.runs == 3
    for run, ours, _ in held_stills(runs, True):
        assert not any(np.array_equal(ours[0], p[0]) for r, p in zip(runs.runs, runs.pixels) if r.person == run.person)


def test_the_table_names_budgets_and_marks_the_papers_figures() -> None:
    rows = [
        Row("ground truth", "-", 0, 1.0, 100.0, 0.5, 0.4, 9),
        Row("speech2video (paper preset)", "the voice alone", 3200, 0.61, 18.5, 0.2, 0.7, 9),
    ]
    text = as_text(rows, 128)
    assert "3200 (the same for all)" in text
    assert "from other data sets" in text
    assert "CREMA-D: speech2video" in text
    assert "0.541" in text
    assert "18.50" in text
    uneven = as_text([*rows, Row("pack", "stills", 18000, 0.9, 30.0, 0.3, 0.5, 4)], 128)
    assert "not the same for all" in uneven
    assert PAPER["VoxCeleb2"]["SDFA"] == (0.7342, 25.121, 5.8)


def test_what_is_not_trained_is_said(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="train it first"):
        load_run(tmp_path)
    with pytest.raises(StageError, match="train it first"):
        load_judge(tmp_path)
    assert images_of(tmp_path) == 0
    (tmp_path / "manifest.json").write_text('{"provenance": {"face": {"training": [{"images": 300}, {"images": 60}]}}}')
    assert images_of(tmp_path) == 360


def test_strips_hold_drawn_over_true(tmp_path: Path) -> None:
    import cv2

    runs = runs_of(1)
    dark = np.zeros_like(runs.pixels[0])
    save_strip(tmp_path / "a" / "strip.png", [as_tensor(dark), as_tensor(runs.pixels[0])])
    picture = cv2.cvtColor(cv2.imread(str(tmp_path / "a" / "strip.png")), cv2.COLOR_BGR2RGB)
    assert picture.shape == (128, 8 * 64, 3)
    assert not picture[:64].any()
    np.testing.assert_array_equal(picture[64:, 64:128], runs.pixels[0][1])


def clip(number: int, split: str, frames: int = 60) -> Clip:
    phones = [("sil", 0.0, 0.5), ("AH", 0.5, 1.5), ("sil", 1.5, 2.0)]
    info = ClipInfo(
        id=f"k{number}", person="Ada", voice="v", sentence="s", split=split, source="x", real_voice=True, frames=frames,
        size=64, phones=phones,
    )  # fmt: skip
    return Clip(Path("nowhere"), info)


def test_runs_lie_in_what_is_spoken_and_spread_ones_cover_the_clip() -> None:
    clips = [clip(i, "train") for i in range(5)] + [clip(5, "test"), clip(6, "test", 10)]
    config = FaceRunsConfig(frames=8, train=3, test=4)
    runs = chosen_runs(clips, config, "Ada")
    assert runs == chosen_runs(clips, config, "Ada")
    assert [run.split for run in runs] == ["train"] * 3 + ["test"]  # the clip of ten frames is too short
    assert all(15 <= run.first <= 37 for run in runs)
    spread = chosen_runs(clips, FaceRunsConfig(frames=5, spread=True), "Ada")
    assert all((run.first, run.step) == (0, 14) for run in spread)


def test_runs_on_disk_are_read_back_or_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="draw them"):
        load_runs(tmp_path)
    pixels = np.zeros((2, 3, 16, 16, 3), np.uint8)
    np.save(tmp_path / "Ada.npy", pixels)
    runs = [vars(Run(f"c{i}", "Ada", "v", False, split, 1)) for i, split in enumerate(("train", "test"))]
    about = {"format": "mouthpiece-runs/1", "size": 16, "frames": 3, "runs": runs}
    (tmp_path / "Ada.json").write_text(json.dumps(about))
    found = load_runs(tmp_path)
    assert [run.clip for run in found.of("test").runs] == ["c1"]
    (tmp_path / "Ada.json").write_text(json.dumps(about | {"frames": 4}))
    with pytest.raises(ClipError, match="draw them again"):
        load_runs(tmp_path)


def test_small_pictures_stand_over_grey() -> None:
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[:32] = (200, 100, 50, 255)
    shrunk = small(picture, 16)
    assert shrunk.shape == (16, 16, 3)
    np.testing.assert_array_equal(shrunk[2, 3], [200, 100, 50])
    np.testing.assert_allclose(shrunk[14, 3], 128, atol=1)
