"""A voice reader goes into a finished pack, and the engine hears with it what the students say."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import packs
import pytest
import torch

from engine.animator import Animator
from engine.avatar import open_avatar
from engine.controls import Controls
from export.reader import probe_contexts
from training.data.heard import probe_sound
from training.models.speech2video.manner import Manner
from training.models.speech2video.students import (
    Listened,
    StudentConfig,
    Students,
    habit_of,
    load_students,
    save_reader,
)
from training.models.speech2video.vgg import VggConfig
from training.stages.run import StageError, write_tensors
from training.stages.teachers import Teachers, TeachersConfig, load_teachers


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained teachers and students for the tiny pack's encoder, as run folders."""
    root = tmp_path_factory.mktemp("runs")
    pack = packs.build_tiny_pack(root / "plain.avatar", size=128)
    torch.manual_seed(0)
    identity = VggConfig((4, 4, 4, 4, 4), (1, 1, 1, 1, 1), 64, 16, 40, 2)
    config = TeachersConfig(identity=identity)
    teachers = root / "teachers"
    teachers.mkdir()
    write_tensors(teachers / "model.safetensors", {k: v.half() for k, v in Teachers(config).state_dict().items()})
    (teachers / "model.json").write_text(json.dumps({"config": asdict(config)}, default=str))
    (teachers / "people.json").write_text(json.dumps(["A", "B"]))
    students = Students(
        StudentConfig(context_size=packs.CONTEXT, window=10, stride=4, hidden=16, feature=40, rows=30)
    ).eval()
    reader = root / "reader"
    reader.mkdir()
    probe = probe_contexts(open_avatar(pack), probe_sound())
    about = {"config": asdict(students.config), "probe": probe.tolist(), "metrics": {"test": {"emotion": 0.5}}}
    save_reader(students, reader / "best", about, write_tensors)
    write_tensors(reader / "voices.safetensors", {"face_mean": torch.zeros(40), "voices": torch.randn(20, 40)})
    return root


def add(runs: Path, out: Path, reader: str = "reader") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export.reader", runs / "plain.avatar", runs / reader, "-o", out]
    return subprocess.run(
        [*map(str, command), "--teachers", str(runs / "teachers")], capture_output=True, text=True, check=False
    )


def buzz(seconds: float) -> np.ndarray:
    """A voiced sound whose pitch and loudness move."""
    t = np.arange(int(16_000 * seconds)) / 16_000
    phase = 2 * np.pi * (140 * t - 8 * np.cos(2 * np.pi * t) / (2 * np.pi))
    waves = sum(np.sin(k * phase) / k for k in range(1, 6))
    return (0.1 * (1.2 + np.sin(2 * np.pi * 4 * t)) * waves).astype(np.float32)


def answers_of(animator: Animator) -> list[np.ndarray]:
    """Fills up with what the reader answers from now on."""
    found: list[np.ndarray] = []
    graph = animator._listener._graph
    step = graph.step

    def listening(state, inputs):
        after, outputs = step(state, inputs)
        found.append(outputs["emotion"][0].copy())
        return after, outputs

    graph.step = listening
    return found


def test_a_pack_gets_a_reader_and_the_engine_hears_with_it(runs: Path, tmp_path: Path) -> None:
    done = add(runs, tmp_path / "hearing.avatar")
    assert done.returncode == 0, done.stderr
    avatar = open_avatar(tmp_path / "hearing.avatar")
    assert avatar.manifest.quality["voice_reader"] == {"test": {"emotion": 0.5}}
    assert avatar.manifest.graphs.voice_reader.inputs_of("context")["context"] == (1, 37, packs.CONTEXT)
    animator = Animator(avatar)
    felt = answers_of(animator)
    quiet = np.zeros(8_000, np.float32)  # digital silence, as where sound is missing
    animator.push(np.concatenate([quiet, buzz(2.0), quiet, buzz(1.0)]))
    animator.skip_to_newest()
    frame = animator.next_frame(Controls(auto_emotion=1.0, person_from_voice=True))
    assert frame.rgba.shape == (128, 128, 4)
    # what the engine reads, state and all, is what the students say of the same sound
    students, _ = load_students(runs / "reader" / "best")
    listener, encoder = animator._listener, animator._encoder
    animator.close()
    sound = torch.from_numpy(np.concatenate([encoder.sound(9 + 10 * k, 10) for k in range(encoder.hops // 10)], axis=1))
    sums, voiced = habit_of(Manner()(sound)[0])
    last = encoder.hops // 10 * 10 - 1
    contexts = torch.from_numpy(encoder.window(last, 37))
    heard = Listened(
        contexts[:, ::4],
        torch.from_numpy(listener._usual),
        torch.tensor([[min(listener._heard_s, 60.0)]]),
        Manner()(sound)[:, -30:],
        (sums / voiced.clamp(min=1e-3))[None],
        voiced[None],
    )
    with torch.no_grad():
        expected = students(heard)[0].softmax(1)[0].numpy()
    np.testing.assert_allclose(felt[-1], expected, atol=2e-3)
    assert np.isfinite(felt).all()


def test_a_reader_of_another_encoder_is_refused(runs: Path, tmp_path: Path) -> None:
    students, about = load_students(runs / "reader" / "best")
    other = runs / "other"
    other.mkdir()
    save_reader(students, other / "best", about | {"probe": about["probe"][::-1]}, write_tensors)
    done = add(runs, tmp_path / "refused.avatar", "other")
    assert done.returncode != 0
    assert "another audio encoder" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "refused.avatar").exists()


def test_teachers_come_back_as_they_were(runs: Path, tmp_path: Path) -> None:
    teachers, people = load_teachers(runs / "teachers")
    assert people == ["A", "B"]
    assert teachers.identity.feature(torch.rand(1, 3, 128, 128)).shape == (1, 40)
    with pytest.raises(StageError, match="train it first"):
        load_teachers(tmp_path)
