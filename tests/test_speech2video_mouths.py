"""Mouths cut by landmarks, the batches SyncNet learns from, and the figures it is read by."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.data.clip import Clip, ClipError, ClipInfo, Truth, add_pixels, write_clip
from training.data.mouths import cut_clip, cut_mouth, mouth_boxes
from training.data.stored import stored_frames
from training.models.speech2video.syncnet import FRAMES, distances, sound_windows, stacks
from training.rig.drawing import _Encoder, read_pixels
from training.stages.run import StageError
from training.stages.syncnet import GRID, SeenAndHeard, batch_of, judge_truth, moments_of, prepare


def landmarks(frames: int = 40) -> np.ndarray:
    """A face of 256 pixels whose mouth moves about (128, 160) as the head nods, eyes 60 pixels apart."""
    marks = np.zeros((frames, 68, 2), np.float32)
    marks[:, 36], marks[:, 45] = (98, 110), (158, 110)
    marks[:, 48:68] = (128, 160)
    marks[:, 48:68, 1] += 3 * np.sin(np.arange(frames))[:, None]
    return marks


def test_boxes_follow_the_head_and_not_the_lips() -> None:
    boxes = mouth_boxes(landmarks(), 256)
    assert boxes.shape == (40, 3)
    np.testing.assert_allclose(boxes[:, 0], 128 / 256, atol=1e-6)
    np.testing.assert_allclose(boxes[:, 1], (160 + 6) / 256, atol=3 / 256)
    assert np.ptp(boxes[10:30, 1]) < 0.3 * 6 / 256  # half a second's mean takes the wobble out
    np.testing.assert_allclose(boxes[:, 2], 57 / 256, rtol=1e-5)
    assert mouth_boxes(landmarks(3), 256).shape == (3, 3)


@pytest.mark.parametrize("size", [128, 256, 512])
def test_a_mouth_looks_the_same_at_every_size_of_picture(size: int) -> None:
    scene = np.full((512, 512, 3), 90, np.uint8)
    cv2.ellipse(scene, (280, 330), (60, 30), 0, 0, 360, (200, 60, 40), -1, cv2.LINE_AA)
    picture = cv2.resize(scene, (size, size), interpolation=cv2.INTER_AREA)
    mouth = cut_mouth(picture, np.float32([280 / 512, 330 / 512, 0.3]), 32).astype(int)
    red = mouth[..., 0] > 145
    rows, columns = np.nonzero(red)
    assert abs(rows.mean() - 15.5) < 0.4
    assert abs(columns.mean() - 15.5) < 0.4
    assert np.ptp(columns) + 1 == pytest.approx(120 / (0.3 * 512) * 32, abs=1.5)


def test_boxes_past_the_rim_are_cut_all_the_same() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (256, 256, 4), dtype=np.uint8)
    for box in ((-0.2, 0.5, 0.25), (1.3, 1.2, 0.25), (0.5, 0.99, 0.4)):
        assert cut_mouth(picture, np.float32(box), 16).shape == (16, 16, 3)


def test_clips_without_pixels_are_refused() -> None:
    info = ClipInfo(
        id="a", person="A", voice="v", sentence="s", split="train", source="x", real_voice=True, frames=9, size=64
    )
    with pytest.raises(ClipError):
        cut_clip(Clip(Path("nowhere"), info), 16)


class Counting(nn.Module):
    """Sees how bright a mouth is and hears how loud a sound is, as one number each."""

    def see(self, mouths: Tensor) -> Tensor:
        return mouths.mean((1, 2, 3), keepdim=False)[:, None]

    def hear(self, mfcc: Tensor) -> Tensor:
        return mfcc[:, 0].mean(1)[:, None]


def made_up(late: int = 0) -> SeenAndHeard:
    """One clip whose mouths are as bright as its sound was loud `late` frames before each of them."""
    rng = np.random.default_rng(1)
    loud = np.kron(rng.random(60), np.ones(10)).astype(np.float32)  # changes every 0.1 s
    mfcc = torch.from_numpy(loud)[None].expand(13, -1).contiguous()
    mean = sound_windows(mfcc, [f - late for f in range(180)])[:, 0].mean(1).numpy()
    pixels = np.round(255 * mean).astype(np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2).repeat(3, 3)
    # five frames' mean brightness stands for their first frame's sound
    return SeenAndHeard(("c",), (np.ascontiguousarray(pixels),), (mfcc,), ((20, 150),))


def test_figures_of_a_pair_in_time_and_of_one_that_is_late() -> None:
    net = Counting()
    curves = distances(net, torch.rand(12, 3, 16, 16), torch.rand(13, 300), 40, 6)
    assert curves.shape == (8, 13)
    one = net.hear(sound_windows(torch.rand(13, 300), [40]))
    assert one.shape == (1, 1)
    # the first window against the sound two frames later is what it was one by one
    mouths, mfcc = torch.rand(12, 3, 16, 16), torch.rand(13, 300)
    curves = distances(net, mouths, mfcc, 40, 6)
    by_hand = (net.see(stacks(mouths)[3:4]) - net.hear(sound_windows(mfcc, [40 + 3 + 2]))).abs()
    assert float(curves[3, 8]) == pytest.approx(float(by_hand), abs=1e-6)
    early, late = judge_truth(net, made_up(2)), judge_truth(net, made_up(-5))
    assert early["offset_right"] == 1.0  # five frames mean what the middle one does
    assert late["offset_right"] == 0.0
    assert early["lse_d"] < 0.5 * early["lse_d_shifted"]
    assert early["run_count"] == 8


def test_moments_of_a_clip_stand_apart_and_batches_repeat() -> None:
    rng = np.random.default_rng(0)
    at = sorted(moments_of((10, 100), 16, rng))
    assert min(np.diff(at)) >= GRID
    assert at[0] >= 10
    assert at[-1] <= 100
    assert len(moments_of((3, 6), 16, rng)) == 16  # a short clip gives some twice
    data = made_up()
    mouths, sounds, picks = batch_of(data, 2, 5, (0, 3))
    assert mouths.shape == (2, 5, 3 * FRAMES, 16, 16)
    assert sounds.shape == (2, 5, 13, 20)
    assert picks == [0, 0]
    again = batch_of(data, 2, 5, (0, 3))
    assert torch.equal(mouths, again[0])
    assert torch.equal(sounds, again[1])


def test_missing_mouths_are_said_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "corpus.json").write_text('{"format": "mouthpiece-corpus/1"}')
    with pytest.raises(StageError, match=r"training\.data\.mouths"):
        prepare(tmp_path, tmp_path / "mouths", 16, "train")


def with_pixels(folder: Path, frames: int = 12, size: int = 64) -> Clip:
    """A clip whose pixels are bright on a dark rim, and fade in."""
    info = ClipInfo(
        id="p",
        person="A",
        voice="v",
        sentence="s",
        split="train",
        source="x",
        real_voice=True,
        frames=frames,
        size=size,
    )
    shapes = {name: np.zeros((frames, *tail), np.float32) for name, tail in Truth.SHAPES.items()}
    shapes["landmarks"][:, 36], shapes["landmarks"][:, 45] = (20, 24), (44, 24)
    shapes["landmarks"][:, 48:68] = (32, 40)
    clip = write_clip(folder, info, np.zeros(frames * 533, np.float32), Truth(**shapes))
    files = {name: folder / name for name in ("rgb.mp4", "alpha.mp4")}
    for name, layout, pixel_format in (("rgb.mp4", "rgb24", "yuv420p"), ("alpha.mp4", "gray", "gray")):
        coder = _Encoder(files[name], size, 30, pixel_format)
        for k in range(frames):
            plane = np.full((size, size), 20, np.uint8)
            plane[8:-8, 8:-8] = 60 + 12 * k
            coder.write(np.dstack([plane] * 3) if layout == "rgb24" else plane, layout)
        coder.close()
    return add_pixels(clip, files)


def test_stored_frames_are_what_the_rig_reads_and_only_those_wanted(tmp_path: Path) -> None:
    clip = with_pixels(tmp_path)
    whole = list(read_pixels(clip))
    assert all(np.array_equal(a, b) for a, b in zip(stored_frames(clip), whole, strict=True))
    some = list(stored_frames(clip, range(2, 11, 4)))
    assert all(np.array_equal(a, whole[k]) for a, k in zip(some, (2, 6, 10), strict=True))
    mouths = cut_clip(clip, 16)
    assert mouths.shape == (12, 16, 16, 3)
    assert mouths[11].mean() > mouths[0].mean() + 20
    (clip.folder / "rgb.mp4").write_bytes(b"no film")
    with pytest.raises(ClipError, match="cannot read its pixels"):
        list(stored_frames(clip))
