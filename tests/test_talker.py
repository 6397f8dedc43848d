"""The talker: windows, the loss of a talking mouth, crops in step with their sound, and the supervised stage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.clip import ClipInfo, Truth, write_clip
from training.data.spoken import CropPlan, SpokenClip, draw_batch, draw_crop, hops_of, learn_lips, load_clip, pressed
from training.losses.talking import TalkingLoss
from training.metrics.heard import perform
from training.models.cpc import AudioEncoderConfig
from training.models.talker import Talker, TalkerConfig, load_hearing, newest_hops, windows_at
from training.rig.expressions import EXPRESSIONS, INDEX
from training.stages import talker as stage
from training.stages.run import RunOptions, StageError

GAP = np.zeros(60, np.float32)
GAP[INDEX["jawOpen"]], GAP[INDEX["mouthClose"]] = 0.4, -0.3


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make_clip(root: Path, name: str, split: str, seed: int) -> SpokenClip:
    """Two seconds in which a loud tone opens the mouth and a hum (M) shuts it; silence at both ends."""
    rng = np.random.default_rng(seed)
    phones, at = [("sil", 0.0, 0.3)], 0.3
    while at < 1.6:
        for phone in ("AA", "M"):
            phones.append((phone, at, at + rng.uniform(0.1, 0.2)))
            at = phones[-1][2]
    phones.append(("sil", at, 2.2))
    time = np.arange(int(2.2 * 16000)) / 16000
    opening = np.zeros_like(time)
    for phone, start, end in phones:
        opening[(time >= start) & (time < end)] = {"AA": 1.0, "M": 0.15, "sil": 0.0}[phone]
    tone = np.sin(2 * np.pi * 700 * time) * opening + np.sin(2 * np.pi * 150 * time) * (opening > 0)
    frames = int(2.2 * 30)
    level = np.interp(np.arange(frames) / 30, time, (opening > 0.5).astype(float)).astype(np.float32)
    expression = np.zeros((frames, 60), np.float32)
    expression[:, INDEX["jawOpen"]] = (0.4 + 0.1 * (seed % 3)) * level
    expression[:, INDEX["mouthClose"]] = 0.1 * (1 - level)
    emotion = np.zeros((frames, 6), np.float32)
    emotion[:, 3] = seed % 2
    expression[:, INDEX["mouthSmile_L"]] = 0.8 * emotion[:, 3]
    truth = Truth(
        landmarks=np.zeros((frames, 68, 2), np.float32), pose=np.zeros((frames, 3), np.float32),
        shift=np.zeros((frames, 3), np.float32), gaze=np.zeros((frames, 2), np.float32),
        blink=np.zeros(frames, np.float32), expression=expression, emotion=emotion,
        intensity=emotion.sum(1), phone=np.zeros(frames, np.int16), aperture=expression @ GAP + 0.02,
    )  # fmt: skip
    info = ClipInfo(
        id=name, person="p", voice="v", sentence=name, split=split, source="test", real_voice=False, frames=frames,
        size=64, phones=phones,
    )  # fmt: skip
    audio = (0.1 * tone + 1e-4 * rng.standard_normal(len(tone))).astype(np.float32)
    return load_clip(write_clip(root, info, audio, truth))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for index in range(6):
        make_clip(root, f"clip{index}", "train" if index < 4 else "val", index)
    (root / "corpus.json").write_text(json.dumps({"format": "mouthpiece-corpus/1"}))
    return root


def clips_of(corpus: Path) -> list[SpokenClip]:
    return stage.load_sets(stage.TalkerStageConfig(corpus_folders=(corpus,)))["train"]


def test_newest_hop_follows_the_convention() -> None:
    expected = [int(k * 16000 / 30 // 160) - 1 + 4 for k in range(100)]
    assert newest_hops(0, 100, 4).tolist() == expected


def test_windows_end_at_the_newest_hop_and_start_in_zeros() -> None:
    contexts = torch.arange(1.0, 21.0)[None, :, None]
    windows = windows_at(contexts, torch.tensor([-1, 0, 19]), 8)
    assert windows[0, 0].sum() == 0
    assert windows[0, 1].flatten().tolist() == [0] * 7 + [1]
    assert windows[0, 2].flatten().tolist() == list(range(13, 21))
    with pytest.raises(ValueError, match="there are 20"):
        windows_at(contexts, torch.tensor([20]), 8)


def test_offline_talker_equals_window_by_window() -> None:
    talker = Talker(TalkerConfig(context_size=16, width=24, hidden=32)).eval()
    contexts, emotion, newest = torch.randn(2, 60, 16), torch.rand(2, 9, 6), newest_hops(0, 9, 4)
    with torch.no_grad():
        whole = talker.offline(contexts, emotion, newest)
        windows = windows_at(contexts, newest, 32)
        for frame in range(9):
            torch.testing.assert_close(talker(windows[:, frame], emotion[:, frame]), whole[:, frame], atol=1e-5, rtol=0)


def test_talker_is_small() -> None:
    assert sum(p.numel() for p in Talker().parameters()) < 1_000_000


def test_loss_is_zero_for_the_truth_and_grows_with_lips_left_open() -> None:
    judge = TalkingLoss(EXPRESSIONS, torch.from_numpy(GAP), 0.02, 0.05)
    truth = torch.zeros(1, 10, 60)
    aperture, closed, valid = judge.aperture(truth), torch.ones(1, 10), torch.ones(1, 10)
    zero, _ = judge(truth, truth, aperture, closed, valid)
    assert zero == 0
    open_lips, shut_lips = truth.clone(), truth.clone()
    open_lips[..., INDEX["jawOpen"]] += 0.1
    shut_lips[..., INDEX["jawOpen"]] -= 0.1
    opened, terms = judge(open_lips, truth, aperture, closed, valid)
    pressed, _ = judge(shut_lips, truth, aperture, closed, valid)
    assert opened > pressed > 0
    assert terms["closures"] > 0
    valid[:, 5:] = 0
    open_lips[:, :5] = 0
    masked, _ = judge(open_lips, truth, aperture, closed, valid)
    assert masked == 0


def test_aperture_is_learned_from_the_weights(corpus: Path) -> None:
    lips = learn_lips(clips_of(corpus))
    assert lips.fit > 0.999
    emotion = np.eye(6, dtype=np.float32)[[3, 4]]
    smiles = lips.silence(emotion)[:, INDEX["mouthSmile_L"]]
    assert smiles[0] > 0.7
    assert abs(smiles[1]) < 0.05


def test_pressed_lips_count_below_zero(corpus: Path) -> None:
    clips = clips_of(corpus)
    lips = replace(learn_lips(clips), gap=GAP, rest=0.02)
    shut = clips[0].expression.copy()
    shut[5:9, INDEX["mouthClose"]] = 0.4
    cut_off = np.maximum(lips.aperture(shut), 0.0)
    aperture = pressed(replace(clips[0], expression=shut, aperture=cut_off), lips).aperture
    assert (aperture[5:9] < -0.02).all()
    np.testing.assert_allclose(np.maximum(aperture, 0.0), cut_off, atol=0.003)


def test_crops_keep_sound_and_truth_in_step(corpus: Path) -> None:
    clips = clips_of(corpus)
    lips = learn_lips(clips)
    rng = np.random.default_rng(5)
    found = []
    for _ in range(30):
        crop = draw_crop(clips, lips, CropPlan(48, 8, quiet_share=0.0), rng)
        assert crop.samples.shape == (160 * hops_of(48, 8),)
        assert crop.expression.shape == (48, 60)
        sound = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(crop.samples, 512)[::533][:48] * np.hanning(512))
        loud = np.log(np.abs(sound[:, 15:35]).max(1) + 1e-4)
        jaw = crop.expression[:, INDEX["jawOpen"]]
        lags = [np.corrcoef(loud[5 + lag : 43 + lag], jaw[5:43])[0, 1] for lag in range(-4, 5)]
        found.append(lags if np.isfinite(lags).all() else [0.0] * 9)
    # a window of 32 ms starts at its frame, so the sound's loudness may lead by half a frame
    assert np.argmax(np.mean(found, axis=0)) - 4 in (-1, 0)


def test_batches_repeat_from_their_seed(corpus: Path) -> None:
    clips = clips_of(corpus)
    lips = learn_lips(clips)
    first, again = (draw_batch(clips, lips, 3, CropPlan(48, 8, quiet_share=0.3), (1, 2)) for _ in range(2))
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one.samples, other.samples)
        np.testing.assert_array_equal(one.expression, other.expression)


def tiny(corpus: Path, out: Path, steps: int) -> stage.TalkerStageConfig:
    return stage.TalkerStageConfig(
        corpus_folders=(corpus,), lookahead=(0, 4), batch=4, crop_frames=48, quiet_share=0.1,
        encoder=AudioEncoderConfig(context_size=32, width=32, bands=16),
        talker=TalkerConfig(context_size=32, width=16, hidden=32),
        run=RunOptions(out=out, steps=steps, lr=3e-3, warmup_steps=5, ema_decay=0.9),
    )  # fmt: skip


def test_a_small_batch_is_learned(corpus: Path, tmp_path: Path) -> None:
    config = tiny(corpus, tmp_path, 0)
    clips = clips_of(corpus)
    lips = learn_lips(clips)
    batch = stage.collate(draw_batch(clips, lips, 3, CropPlan(48, 4, quiet_share=0.0), (0,)), 9, torch.device("cpu"))
    objective = stage.TalkerObjective(config, lips)
    optimiser = torch.optim.Adam(objective.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss, _ = objective(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.35 * losses[0]


def test_stage_leaves_a_checkpoint_that_speaks(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(corpus, tmp_path / "run", 30)
    monkeypatch.setattr(stage, "read_config", lambda default, arguments: config)
    stage.main([])
    hearing = load_hearing(config.run.out / "best.safetensors")
    assert hearing.about["lookahead_hops"] in (0, 4)
    assert set(hearing.about["metrics"]) == {"val"}
    clip = clips_of(corpus)[0]
    expression = perform(hearing.encoder, hearing.talker, clip)
    assert expression.shape == (clip.frames, 60)
    assert np.isfinite(expression).all()


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a checkpoint of training\.stages\.talker"):
        load_hearing(tmp_path / "nothing.safetensors")


def test_a_corpus_without_validation_is_refused(tmp_path: Path) -> None:
    make_clip(tmp_path, "only", "train", 0)
    (tmp_path / "corpus.json").write_text(json.dumps({"format": "mouthpiece-corpus/1"}))
    with pytest.raises(StageError, match="splits train and val"):
        stage.load_sets(stage.TalkerStageConfig(corpus_folders=(tmp_path,)))
