"""Students distilled from faces into voices, and judged: on contexts made up so that the truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from training.data.heard import Heard, Sounds, Voiced, windows
from training.metrics.voice import evaluate, gallery_of, table
from training.models.speech2video.students import StudentConfig
from training.stages.distil import DistilConfig, DistilObjective, Taught, batch_of, label_of, teach
from training.stages.run import RunOptions, StageError
from training.stages.teachers import as_distribution

MOODS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
SIZE = 12
SMALL = StudentConfig(context_size=SIZE, window=4, stride=4, hidden=24, feature=40, rows=10)


def made_up(clips: int = 60) -> Heard:
    """Contexts whose first six numbers lean to the mood and the next four to the person; all is voiced, at one pitch."""
    rng = np.random.default_rng(0)
    voiced, copies = [], []
    for i in range(clips):
        mood, person = MOODS[i % 6], f"P{i % 4}"
        rows = rng.normal(0, 0.5, (50, SIZE))
        rows[:, i % 6] += 1.0
        rows[:, 6 + i % 4] += 1.0
        split = "test" if i % 5 == 4 else "train"
        voiced.append(Voiced(f"clip{i}", person, "v", i % 2 == 0, split, mood, 1.0, (0.2, 1.8), 50))
        manner = rng.normal(0, 0.1, (100, 18)).astype(np.float16)
        manner[:, 0] = 1.0
        spoiled = rows + rng.normal(0, 0.2, rows.shape)
        copies.append(tuple(Sounds(copy.astype(np.float16), manner) for copy in (rows, spoiled)))
    silence = Sounds(np.zeros((50, SIZE), np.float16), np.zeros((100, 18), np.float16))
    return Heard(tuple(voiced), tuple(copies), (silence,))


def taught_by(heard: Heard) -> Taught:
    faces = torch.randn(4, 40, generator=torch.Generator().manual_seed(0))
    nu = torch.stack([faces[int(clip.person[1])] for clip in heard.clips])
    mu = torch.stack([label_of(clip.voice_says, clip.strength, torch.zeros(6)) for clip in heard.clips])
    return Taught((mu + 1e-3).log(), nu)


def test_students_learn_mood_and_person_and_are_judged_beside_chance() -> None:
    heard = made_up()
    taught = taught_by(heard)
    config = DistilConfig(batch=32, live=SMALL, paper=replace(SMALL, window=1, rows=0), run=RunOptions(steps=160))
    torch.manual_seed(0)
    objective = DistilObjective(config)
    optimiser = torch.optim.Adam(objective.parameters(), 5e-3)
    for step in range(160):
        batch = batch_of(heard, taught, heard.of("train"), config, step)
        loss, _ = objective(batch.heard, batch.mu, batch.nu, batch.speech)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    objective.eval()
    gallery, people = gallery_of(heard, taught.nu)
    figures = {
        "live": evaluate(objective.live, heard, gallery, people),
        "paper": evaluate(objective.paper, heard, gallery, people),
    }
    test = figures["live"]["test"]
    assert test["emotion"] > 0.8
    assert test["rank_1"] > 0.8
    assert (test["rank_1_chance"], test["rank_5_chance"]) == (0.25, 1.25)
    assert np.trace(test["confusion"]) == round(test["emotion"] * test["emotion_clips"])
    assert {"test, real", "test, synthetic", "test, bad microphones"} <= set(figures["live"])
    words = table(figures)
    assert "anger" in words
    assert len(words.splitlines()) > 10


def test_batches_are_functions_of_seed_and_step() -> None:
    heard = made_up()
    taught = taught_by(heard)
    config = DistilConfig(batch=8, live=SMALL, paper=replace(SMALL, window=1, rows=0), silence_share=0.5)
    first, again = (batch_of(heard, taught, heard.of("train"), config, 3) for _ in range(2))
    assert first.clips == again.clips
    assert all(torch.equal(a, b) for a, b in zip(first.heard, again.heard))
    assert torch.equal(first.mu, again.mu)
    omegas, usual, seconds, rows, habit, voiced = first.heard
    assert omegas.shape == (8, 4, SIZE)
    assert usual.shape == (8, SIZE)
    assert rows.shape == (8, 10, 18)
    assert habit.shape == (8, 18)
    assert seconds.shape == voiced.shape == (8, 1)
    assert float(voiced.min()) > 0  # the moment's own clip is always known
    assert float(seconds.max()) > 1.0
    assert 0 < int(first.speech.sum()) < 8
    assert (first.mu[~first.speech].argmax(1) == 4).all()  # silence is calm
    assert all(heard.clips[i].split == "train" for i in first.clips)


def test_windows_before_the_stream_are_zeros() -> None:
    rows = np.arange(12, dtype=np.float16).reshape(6, 2)
    cut = windows(rows, [1, 5], 4)
    np.testing.assert_array_equal(cut[0], [[0, 0], [0, 0], [0, 1], [2, 3]])
    np.testing.assert_array_equal(cut[1], rows[2:6])
    np.testing.assert_array_equal(windows(rows, [5], 2, 2)[0], rows[[3, 5]])


def test_labels_where_the_voice_says_something_else_the_face() -> None:
    face = torch.full((6,), 1 / 6)
    assert torch.equal(label_of("", 0.0, face), face)
    assert float(label_of("sad", 0.5, face)[5]) == pytest.approx(0.875)
    assert float(label_of("neutral", 0.5, face)[4]) == 1.0
    moods = as_distribution(np.array([[0.5, 0, 0, 0, 0, 0], [0.9, 0.9, 0, 0, 0, 0]], np.float32))
    np.testing.assert_allclose(moods, [[0.5, 0, 0, 0, 0.5, 0], [0.5, 0.5, 0, 0, 0, 0]], atol=1e-6)


def test_clips_that_no_teacher_saw_are_named(tmp_path: Path) -> None:
    heard = made_up(6)
    with pytest.raises(StageError, match="run it first"):
        teach(heard, tmp_path, 0.5)
    (tmp_path / "features.json").write_text(json.dumps({"clips": ["clip0"], "people": ["P0"]}))
    save_file({"mu": torch.zeros(1, 6), "nu": torch.zeros(1, 40)}, tmp_path / "features.safetensors")
    with pytest.raises(StageError, match="no frames of 5 clips, such as clip1"):
        teach(heard, tmp_path, 0.5)
