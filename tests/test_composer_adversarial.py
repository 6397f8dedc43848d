"""The live preset's losses on the shipped decoder's blocks: who learns from what, what can be left out, exact resume."""

from __future__ import annotations

import math
import signal
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from training.data.frames import FrameStore, random_conditions
from training.models.composer import Composer, ComposerConfig
from training.models.speech2video.vgg import VggConfig, VggFace
from training.rig.mesh import Camera
from training.stages.composer import PersonFrames, window
from training.stages.composer_adversarial import (
    PARTS,
    AdversarialConfig,
    AdversarialObjective,
    crispness,
    frames_of,
    main,
    part_of,
    square,
)
from training.stages.run import Run, RunOptions, StageError
from training.stages.stills import EYES_BOX, FACE_BOX, MOUTH_BOX

FRAMES = 18
VGG = VggConfig(widths=(4, 4, 8, 8, 8), hidden=16, people=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of training.stages.composer leaves of one person; the pictures are noise."""
    root, rng = tmp_path_factory.mktemp("face"), np.random.default_rng(0)
    (root / "people" / "Noise").mkdir(parents=True)
    for k in range(3):
        still = cv2.resize(rng.integers(0, 255, (32, 32, 4), dtype=np.uint8), (512, 512))
        cv2.imwrite(str(root / "people" / "Noise" / f"still_{k}.png"), still)
    store = FrameStore(root / "frames" / "Noise", FRAMES, FACE_BOX)
    store.begin(random_conditions(rng, FRAMES))
    store.turned[:] = cv2.resize(rng.integers(0, 255, (32, 32, 4), dtype=np.uint8), (512, 512))
    store.twin[:] = rng.integers(0, 255, store.twin.shape, dtype=np.uint8)
    store.turned_seen[:] = 1
    store.mark(FRAMES)
    return root


def composer() -> Composer:
    torch.manual_seed(0)
    yaw = math.radians(22)
    config = ComposerConfig(
        people=("Noise",), face_box=FACE_BOX, eyes_box=EYES_BOX, mouth_box=MOUTH_BOX,
        still_poses=((0.0, 0.0, 0.0), (-yaw, 0.0, 0.0), (yaw, 0.0, 0.0)),
        view_projection=tuple(map(tuple, Camera.portrait(512).view_proj.tolist())), pivot=(0.0, -5.0, -2.0),
    )  # fmt: skip
    made = Composer(config)
    made.maps_looks[:] = torch.rand_like(made.maps_looks)
    made.maps_surface[:] = torch.rand_like(made.maps_surface)
    made.maps_solid_stills[:] = 1.0
    return made


def objective(**options: object) -> AdversarialObjective:
    config = AdversarialConfig(paint_batch=1, turn_batch=1, judged=2, **options)
    made = composer()
    return AdversarialObjective(made, VggFace(VGG).eval().requires_grad_(False), config)


def loss_of(made: AdversarialObjective, frames: PersonFrames, step: int = 0, say: float = 1.0):
    rng = np.random.default_rng([0, step])
    paint, turn, judged = (frames.batch(rng, n) for n in (1, 1, 4))
    return made("Noise", frames, paint, turn, judged, window(rng, made.base.composer.config.grid), say)


def test_each_side_learns_from_its_own_loss(folder: Path) -> None:
    made, frames = objective(), frames_of(folder, "Noise")
    place = window(np.random.default_rng(0), made.base.composer.config.grid)
    index = frames.batch(np.random.default_rng(1), 2)
    drawn = made.draw("Noise", frames, index, place)
    assert drawn.part.shape == drawn.true_part.shape == (2, 3, 256, 256)
    assert drawn.face.shape == drawn.true_face.shape == (2, 3, FACE_BOX[3], FACE_BOX[2])
    from training.stages.speech2video import held

    with held(made.judges):
        made.generator_loss(drawn, {}, 1.0).backward()
    assert all(p.grad is None for p in made.judges.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in made.base.composer.painter.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in made.base.composer.turner.parameters())
    made.zero_grad(set_to_none=True)
    drawn = made.draw("Noise", frames, index, place)
    other = part_of(frames.turned(index)[0][:, :3], place, made.base.composer)
    made.judges_loss(drawn, other, {}).backward()
    assert all(p.grad is None for p in made.base.parameters())
    assert all(p.grad is not None for p in made.judges.parameters())


@pytest.mark.parametrize("part", PARTS)
def test_every_part_can_be_left_out(folder: Path, part: str) -> None:
    made, frames = objective(without=(part,)), frames_of(folder, "Noise")
    loss, terms = loss_of(made, frames)
    loss.backward()
    judged = {name for name in ("d_id", "d_fr", "d_sync") if name in terms}
    assert judged == {"d_id", "d_fr", "d_sync"} - {part}
    whole, _ = loss_of(objective(), frames)
    assert float(loss.detach()) < float(whole.detach())  # every part adds to the loss


def test_without_anything_it_is_the_composers_own_stage(folder: Path) -> None:
    frames = frames_of(folder, "Noise")
    made = objective(without=PARTS)
    loss, terms = loss_of(made, frames)
    rng = np.random.default_rng([0, 0])
    paint, turn, _ = (frames.batch(rng, n) for n in (1, 1, 4))
    own, _ = made.base("Noise", frames, paint, turn, window(rng, made.base.composer.config.grid))
    assert float(loss.detach()) == float(own.detach())
    assert "fooled" not in terms


def test_judges_that_have_no_say_yet_change_nothing_for_the_composer(folder: Path) -> None:
    frames = frames_of(folder, "Noise")
    silent = objective()
    loss_of(silent, frames, say=0.0)[0].backward()
    absent = objective(without=("d_id", "d_fr", "d_sync"))
    loss_of(absent, frames)[0].backward()
    for a, b in zip(silent.base.parameters(), absent.base.parameters(), strict=True):
        if b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-7)
    assert any(p.grad.abs().sum() > 0 for p in silent.judges.parameters())


def train(folder: Path, out: Path, stop_after: int = 10**9, resume: bool = False) -> list[float]:
    options = RunOptions(out=out, steps=3, lr=1e-4, warmup_steps=1, resume=resume)
    made, frames = objective(run=options), frames_of(folder, "Noise")
    run, losses = Run(made, made.config, replace(options)), []
    for step in run.steps("frames"):
        loss, terms = loss_of(made, frames, step)
        losses.append(float(loss.detach()))
        run.update(loss, terms, 4, lambda: "Noise")
        if len(losses) == stop_after:
            signal.raise_signal(signal.SIGTERM)
    return losses


def test_a_killed_run_resumes_to_the_same_losses(folder: Path, tmp_path: Path) -> None:
    whole = train(folder, tmp_path / "whole")
    first = train(folder, tmp_path / "parts", stop_after=1)
    assert first + train(folder, tmp_path / "parts", resume=True) == whole


def test_crispness_is_low_where_the_truth_is_noise(folder: Path) -> None:
    made, frames = composer().eval(), frames_of(folder, "Noise")
    drawn = crispness(made, {"Noise": frames})
    assert set(drawn) == {"eyes_crispness", "mouth_crispness"}
    assert all(0.0 < value < 0.5 for value in drawn.values())


def test_squares_and_bad_starts(tmp_path: Path) -> None:
    face = torch.arange(288.0)[None, None, :, None].expand(1, 3, 288, 240)
    assert square(face).shape == (1, 3, 240, 240)
    assert float(square(face)[0, 0, 0, 0]) == 24.0
    with pytest.raises(StageError, match="name that run with --start"):
        frames_of(tmp_path, "Nobody")
    with pytest.raises(StageError, match="d_nothing"):
        main(["--without", "d_nothing"])
    with pytest.raises((StageError, OSError)):
        main(["--start", str(tmp_path), "--run.out", str(tmp_path / "out")])
