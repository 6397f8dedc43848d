"""What is heard of a corpus' clips: contexts and manner side by side, kept and found again, and what is usual in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.clip import CORPUS_FORMAT, ClipInfo, Truth, write_clip
from training.data.heard import ROWS, Heard, hear, hear_corpora
from training.data.usual import listened, moments, read_voice, together, usual_in, usual_of_speech, without_rows
from training.models.cpc import AudioEncoder, AudioEncoderConfig
from training.models.speech2video.students import StudentConfig, Students

RATE = 16_000
LIVE = StudentConfig(context_size=8, window=4, stride=8, hidden=16, feature=24, rows=20)


@pytest.fixture(scope="module")
def encoder() -> AudioEncoder:
    torch.manual_seed(0)
    return AudioEncoder(AudioEncoderConfig(context_size=8, bands=8, width=16)).eval().requires_grad_(False)


def buzz(hz: float, seconds: float = 3.0) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    waves = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 6))
    return (0.1 * waves * (1.2 + np.sin(2 * np.pi * 4 * t))).astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips to learn from and one for the test; the voice is 0.5 s to 2.5 s of each, once lower, once higher."""
    root = tmp_path_factory.mktemp("corpus")
    (root / "corpus.json").write_text(json.dumps({"format": CORPUS_FORMAT}))
    for k, split in enumerate(("train", "train", "train", "test")):
        sound = buzz(120.0 * 1.5 ** (k % 2))
        sound[: RATE // 2] = sound[-RATE // 2 :] = 0
        info = ClipInfo(
            id=f"clip{k}", person="Ada", voice="made-up", sentence=f"s{k}", split=split, source="test",
            real_voice=False, frames=90, size=128, phones=[("sil", 0.0, 0.5), ("AA", 0.5, 2.5), ("sil", 2.5, 3.0)],
            script=[(0.0, "happy", 0.8)],
        )  # fmt: skip
        types = {"phone": np.int16}
        truth = {n: np.zeros((90, *shape), types.get(n, np.float32)) for n, shape in Truth.SHAPES.items()}
        write_clip(root, info, sound, Truth(**truth))
    return root


@pytest.fixture(scope="module")
def heard(corpus: Path, encoder: AudioEncoder, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    return hear_corpora([corpus], encoder, tmp_path_factory.mktemp("run") / "contexts", 1, 0, lambda line: None)


def test_contexts_and_rows_have_heard_the_same(encoder: AudioEncoder) -> None:
    sound = buzz(150.0, 2.0)
    cut = sound.copy()
    cut[20 * 640 :] = 0
    whole, part = hear(encoder, sound), hear(encoder, cut)
    assert (whole.contexts.shape, whole.rows.shape) == ((50, 8), (100, 18))
    np.testing.assert_array_equal(whole.contexts[:20], part.contexts[:20])
    np.testing.assert_array_equal(whole.rows[: 20 * ROWS], part.rows[: 20 * ROWS])
    assert (whole.rows[20 * ROWS + 2] != part.rows[20 * ROWS + 2]).any()


def test_what_was_heard_is_kept_and_found_again(
    corpus: Path, encoder: AudioEncoder, heard: Heard, tmp_path: Path
) -> None:
    said: list[str] = []
    first = hear_corpora([corpus], encoder, tmp_path / "contexts", 1, 0, said.append)
    assert said
    said.clear()
    again = hear_corpora([corpus], encoder, tmp_path / "contexts", 1, 0, said.append)
    assert not said
    for one, other in zip(first.copies, again.copies, strict=True):
        assert len(one) == len(other) == 2  # clean, and one bad microphone
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a.contexts, b.contexts)
            np.testing.assert_array_equal(a.rows, b.rows)
    hear_corpora([corpus], encoder, tmp_path / "contexts", 1, 1, said.append)
    assert said  # another seed has other microphones
    assert [clip.voice_says for clip in heard.clips] == ["happy"] * 4
    assert heard.by_voice == {"made-up": [0, 1, 2, 3]}
    assert len(heard.silence) == 80


def test_the_usual_pitch_is_that_of_what_was_heard(heard: Heard) -> None:
    octaves = np.log2(120 / 150), np.log2(180 / 150)
    low, high = usual_in(heard, 0), usual_in(heard, 1)
    assert low.habit[1] == pytest.approx(octaves[0], abs=0.02)
    assert high.habit[1] == pytest.approx(octaves[1], abs=0.02)
    assert low.seconds == pytest.approx(2.0)
    assert 1.5 < low.voiced <= 2.2
    both = together([low, high], 8)
    assert octaves[0] < both.habit[1] < octaves[1]
    assert both.voiced == pytest.approx(low.voiced + high.voiced)
    nothing = together([], 8)
    assert (nothing.seconds, nothing.voiced) == (0, 0)
    assert not nothing.context.any()
    sofar = usual_in(heard, 0, 0, 25)
    assert sofar.voiced < low.voiced


def test_moments_end_together_and_come_as_one_batch(heard: Heard) -> None:
    sounds = heard.copies[0][0]
    omegas, rows = moments(sounds, [30, 50], LIVE)
    np.testing.assert_array_equal(omegas[:, -1], sounds.contexts[[30, 50]].astype(np.float32))
    np.testing.assert_array_equal(rows[:, -1], sounds.rows[[61, 101]].astype(np.float32))
    given = listened(list(zip(omegas, rows)), [usual_in(heard, 0), usual_in(heard, 1)])
    assert given.rows is not None
    assert (given.omegas.shape, given.rows.shape, given.seconds.shape) == ((2, 4, 8), (2, 20, 18), (2, 1))
    alone = without_rows(given)
    assert alone.rows is None
    assert torch.equal(alone.omegas[:, 0], given.omegas[:, -1])


def test_a_voice_is_read_by_either_kind_of_students(heard: Heard) -> None:
    sounds, speech = heard.copies[0][0], heard.clips[0].speech
    for config in (LIVE, StudentConfig(context_size=8, window=1, hidden=16, feature=24, relative=False)):
        torch.manual_seed(0)
        students = Students(config).eval()
        mu, nu = read_voice(students, sounds, speech)
        assert float(mu.sum()) == pytest.approx(1.0, abs=1e-5)
        assert nu.shape == (24,)
    # the paper's, by hand: the one omega with which the speech ends
    last = usual_of_speech(sounds, speech, int(speech[1] * 25))
    omega = torch.from_numpy(sounds.contexts[int(speech[1] * 25)].astype(np.float32))[None, None]
    given = listened([(omega[0].numpy(), np.zeros((0, 18), np.float32))], [last])
    with torch.no_grad():
        expected = students(without_rows(given))[1][0]
    torch.testing.assert_close(nu, expected)
