"""The frame decoder: geometry, layers, learning and the shapes it promises. Synthetic stills; no head pack needed."""

import json
import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.losses.image import edge_loss, pixel_loss, psnr, ssim
from training.models.composer import (
    PERSON_TENSORS,
    Composer,
    ComposerConfig,
    Lids,
    assemble,
    load_composer,
    premultiply,
)
from training.models.surface import Box, back_turn, frame_rows, head_motion, look, middles, rotation, solve
from training.rig.expressions import INDEX, with_eyes
from training.rig.mesh import Camera
from training.rig.mesh import rotation as rig_rotation
from training.stages.composer import ComposerStageConfig, training_of, whose_turn
from training.stages.run import RunOptions, StageError

CAMERA = Camera.portrait(512)
SIZE = 256  # of the little composer: half the real one
PIVOT = (0.0, -5.0, -2.0)


def ball(n: int) -> torch.Tensor:
    """Surface map of a large ball in front of a still wall: rest points and weight 1 on the ball, 0 on the wall."""
    inverse = np.linalg.inv(CAMERA.view_proj.astype(np.float64))
    x = (np.arange(n) + 0.5) / n * 2 - 1
    u, v = np.meshgrid(x, -x)
    ends = []
    for z in (0.0, 0.9):
        q = np.stack([u, v, np.full_like(u, z), np.ones_like(u)], -1) @ inverse.T
        ends.append(q[..., :3] / q[..., 3:])
    origin, ray = ends[0], ends[1] - ends[0]
    ray = ray / np.linalg.norm(ray, axis=-1, keepdims=True)
    middle, radius = np.array([0.0, 3.0, -4.0]), 11.0
    along = ((middle - origin) * ray).sum(-1)
    off2 = ((origin + ray * along[..., None] - middle) ** 2).sum(-1)
    wall = (-8.0 - origin[..., 2]) / ray[..., 2]
    reach = np.where(off2 < 90.0, along - np.sqrt(np.maximum(radius**2 - off2, 0)), wall)
    points = origin + ray * reach[..., None]
    weight = (off2 < 90.0).astype(np.float32)
    return torch.from_numpy(np.concatenate([points, weight[..., None]], -1).transpose(2, 0, 1)).float()


@pytest.fixture(scope="module")
def composer() -> Composer:
    torch.manual_seed(0)
    yaw = math.radians(22)
    config = ComposerConfig(
        people=("ball",),
        face_box=(88, 88, 64, 64),
        eyes_box=(96, 96, 48, 16),
        mouth_box=(104, 120, 32, 24),
        still_poses=((0.0, 0.0, 0.0), (-yaw, 0.0, 0.0), (yaw, 0.0, 0.0)),
        view_projection=tuple(map(tuple, CAMERA.view_proj.tolist())),
        pivot=PIVOT,
        size=SIZE,
        grid=SIZE // 4,
    )
    composer = Composer(config)
    composer.maps_surface[0] = ball(SIZE // 4)
    composer.maps_looks[0] = torch.rand(3, 4, SIZE // 8, SIZE // 8)
    composer.maps_solid_stills[0] = 1.0
    composer.maps_motion[0] = 0.05 * torch.randn_like(composer.maps_motion[0])
    composer.maps_motion_mix[0] = 0.3 * torch.randn_like(composer.maps_motion_mix[0])
    composer.pictures["ball"] = np.random.default_rng(0).integers(0, 255, (3, SIZE, SIZE, 4), dtype=np.uint8)
    return composer.eval()


def conditions(n: int = 1, scale: float = 1.0) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    limits = torch.tensor([math.radians(25), math.radians(15), math.radians(15)])
    return {
        "expression": 0.3 * torch.rand(n, 60),
        "pose": (torch.rand(n, 3) * 2 - 1) * limits * scale,
        "shift": torch.rand(n, 3) - 0.5,
        "gaze": 0.2 * torch.randn(n, 2),
        "blink": torch.rand(n, 1),
    }


def test_rotation_is_the_rigs():
    pose = torch.tensor([[0.3, -0.2, 0.1], [-0.4, 0.1, 0.25]])
    np.testing.assert_allclose(rotation(pose).numpy(), rig_rotation(pose.numpy()), atol=1e-6)


def test_frame_rows_project_as_the_rigs_camera_does():
    points = torch.tensor([[1.0, 2.0, 5.0], [-6.0, -9.0, 1.0]]).T
    for box in (None, Box(136, 136, 240, 288)):
        seen = frame_rows(torch.from_numpy(CAMERA.view_proj), 512, box) @ torch.cat([points, torch.ones(1, 2)])
        left, top, w, h = (0, 0, 512, 512) if box is None else (box.x, box.y, box.w, box.h)
        pixels = (seen[:2] / seen[2:] + 1) / 2 * torch.tensor([[w], [h]]) + torch.tensor([[left], [top]])
        np.testing.assert_allclose(pixels.T.numpy(), CAMERA.project(points.T.numpy()), atol=2e-3)


def test_solve_finds_where_the_posed_surface_came_from():
    surface, rows = ball(128).unsqueeze(0), frame_rows(torch.from_numpy(CAMERA.view_proj), 512)
    turn = rotation(torch.tensor([[0.3, 0.1, -0.2]]))
    motion = head_motion(rows, torch.tensor(PIVOT), turn, torch.tensor([[0.4, -0.2, 0.3]]))
    target = middles(64, 64)
    at = solve(surface, motion, back_turn(turn), target, target, 64, 6)
    places = look(surface, motion, at, 64)[1]
    centre = ((target - torch.tensor([[0.0], [-0.12]])).abs().amax(1) < 0.15).squeeze()  # well inside the ball
    miss_px = ((places - target).norm(dim=1) * 256).squeeze()[centre]
    start_px = ((look(surface, motion, target, 64)[1] - target).norm(dim=1) * 256).squeeze()[centre]
    assert start_px.mean() > 20
    assert miss_px.max() < 0.5


def test_lids_follow_the_conventions():
    c = conditions(5)
    ours = Lids()(c["expression"], c["gaze"], c["blink"])
    theirs = with_eyes(c["expression"].numpy(), c["gaze"].numpy(), c["blink"][:, 0].numpy())
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)
    shut = Lids()(torch.zeros(1, 60), torch.zeros(1, 2), torch.ones(1, 1))
    assert shut[0, INDEX["eyeBlink_L"]] == 1


def test_shapes_are_the_contract(composer: Composer):
    layers = composer.draw(**conditions(), person=composer.person("ball"))
    shapes = {name: tuple(layer.shape) for name, layer in layers.items()}
    assert shapes == {
        "paint": (1, 4, 16, 16),
        "paint_flow": (1, 2, 16, 16),
        "eyes": (1, 4, 16, 48),
        "mouth": (1, 4, 24, 32),
        "grid": (1, 3, 2, 64, 64),
        "weight": (1, 3, 64, 64),
        "gain": (1, 3, 64, 64),
        "expression": (1, 60),
    }
    assert tuple(composer.person_tensors("ball")) == PERSON_TENSORS
    np.testing.assert_allclose(layers["weight"].sum(1).detach(), 1, atol=1e-5)


def test_batches_equal_single_frames(composer: Composer):
    many = conditions(3)
    with torch.no_grad():
        together = composer.draw(**many, person=composer.person("ball"))
        for i in range(3):
            alone = composer.draw(**{k: v[i : i + 1] for k, v in many.items()}, person=composer.person("ball"))
            for name, layer in alone.items():
                np.testing.assert_allclose(together[name][i : i + 1], layer, atol=2e-3, err_msg=name)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_finite_at_and_beyond_extreme_poses(composer: Composer, scale: float):
    c = conditions(4, scale) | {"blink": torch.ones(4, 1)}
    c["shift"] = c["shift"] * 8
    with torch.no_grad():
        layers = composer.draw(**c, person=composer.person("ball"))
    assert all(torch.isfinite(layer).all() for layer in layers.values())


def test_assemble_is_the_definition(composer: Composer):
    """Against the three steps of docs/formats.md, written with OpenCV."""
    rng = np.random.default_rng(2)
    stills = np.stack([cv2.GaussianBlur(s, (0, 0), 3) for s in composer.stills("ball")])
    x, y, w, h = composer.face_box
    cells = np.stack(np.meshgrid(np.arange(64), np.arange(64))).astype(np.float32) * 4 + 1.5
    layers = {
        "paint": rng.random((1, 4, h // 4, w // 4), np.float32),
        "eyes": rng.random((1, 4, 16, 48), np.float32),
        "mouth": rng.random((1, 4, 24, 32), np.float32),
        "paint_flow": rng.normal(0, 2, (1, 2, h // 4, w // 4)).astype(np.float32),
        "grid": (cells + rng.normal(0, 6, (1, 3, 2, 64, 64))).astype(np.float32),
        "weight": rng.dirichlet((1, 1, 1), (1, 64, 64)).transpose(0, 3, 1, 2).astype(np.float32),
        "gain": rng.uniform(0.8, 1.2, (1, 3, 64, 64)).astype(np.float32),
    }
    tensors = {name: torch.from_numpy(layer) for name, layer in layers.items()}
    straight = torch.from_numpy(stills).permute(0, 3, 1, 2).float() / 255
    ours = assemble(tensors, straight, composer.box, composer.patches)[0].permute(1, 2, 0).numpy()

    pictures = [np.ascontiguousarray(p) for p in premultiply(straight).permute(0, 2, 3, 1).numpy()]

    def enlarged(layer: np.ndarray, width: int, height: int) -> np.ndarray:
        return cv2.resize(layer, (width, height), interpolation=cv2.INTER_LINEAR)

    def looked_up(picture: np.ndarray, at: list[np.ndarray]) -> np.ndarray:
        return cv2.remap(picture, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    here = np.meshgrid(np.arange(x, x + w, dtype=np.float32), np.arange(y, y + h, dtype=np.float32))
    warped = looked_up(pictures[0], [a + enlarged(f, w, h) for a, f in zip(here, layers["paint_flow"][0])])
    paint = enlarged(np.ascontiguousarray(layers["paint"][0].transpose(1, 2, 0)), w, h)
    for name, p in composer.patches.items():
        paint[p.y - y : p.y - y + p.h, p.x - x : p.x - x + p.w] = layers[name][0].transpose(1, 2, 0)
    mask = paint[..., 3:]
    painted = np.dstack([paint[..., :3], pictures[0][y : y + h, x : x + w, 3]])
    pictures[0][y : y + h, x : x + w] = mask * painted + (1 - mask) * warped
    frame = sum(
        enlarged(layers["weight"][0, k], SIZE, SIZE)[..., None]
        * looked_up(pictures[k], [enlarged(a, SIZE, SIZE) for a in layers["grid"][0, k]])
        for k in range(3)
    )
    frame[..., :3] *= enlarged(np.ascontiguousarray(layers["gain"][0].transpose(1, 2, 0)), SIZE, SIZE)
    # OpenCV's remap rounds places to 1/32 pixel
    assert np.abs(ours - frame).mean() < 1e-3
    assert np.abs(ours - frame).max() < 0.05


def test_neutral_frontal_frame_is_the_still(composer: Composer):
    """Before any training geometry alone must give the still back."""
    still = torch.from_numpy(np.stack([cv2.GaussianBlur(s, (0, 0), 6) for s in composer.stills("ball")]))
    straight = still.permute(0, 3, 1, 2).float() / 255
    rest = {name: torch.zeros_like(value) for name, value in conditions().items()}
    person = dict(composer.person("ball")) | {"motion": torch.zeros_like(composer.maps_motion[0])}
    with torch.no_grad():
        layers = composer.draw(**rest, person=person)
        layers["weight"] = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
        for name in ("paint", *composer.patches):
            layers[name] = layers[name] * torch.tensor([1.0, 1, 1, 0]).view(1, 4, 1, 1)
        frame = assemble(layers, straight, composer.box, composer.patches)
    assert psnr(frame, premultiply(straight[:1])) > 40


def test_a_tiny_batch_is_learnt(composer: Composer):
    """Painter and turner together move a wrong picture towards a right one."""
    torch.manual_seed(3)
    learner = Composer(composer.config)
    learner.load_state_dict(composer.state_dict())
    blurred = torch.from_numpy(np.stack([cv2.GaussianBlur(s, (0, 0), 6) for s in composer.stills("ball")]))
    straight, c = blurred.permute(0, 3, 1, 2).float() / 255, conditions()
    with torch.no_grad():
        truth = assemble(learner.draw(**c, person=learner.person("ball")), straight, learner.box, learner.patches)
        truth = truth * 0.8 + 0.1
    optimiser = torch.optim.Adam(learner.parameters(), 2e-3)
    losses = []
    for _ in range(6):
        frame = assemble(learner.draw(**c, person=learner.person("ball")), straight, learner.box, learner.patches)
        loss = pixel_loss(frame, truth) + edge_loss(frame, truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    touched = [n for n, p in learner.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert {"painter.head.weight", "turner.flow.weight", "painter.out.mouth.weight"} <= set(touched)


def test_figures_know_good_from_bad():
    image = F.avg_pool2d(torch.rand(1, 3, 64, 64), 2)
    near, far = image + 0.01, (image + 0.2 * torch.randn_like(image)).clamp(0, 1)
    assert psnr(near, image) == pytest.approx(40, abs=0.01)
    assert ssim(image, image) == pytest.approx(1)
    assert ssim(far, image) < ssim(near, image)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected best\.safetensors"):
        load_composer(tmp_path)


def test_a_person_who_is_new_gets_every_other_step() -> None:

    people = ("Elena", "Amara", "Tom")
    assert [whose_turn(people, "", step) for step in range(4)] == ["Elena", "Amara", "Tom", "Elena"]
    turns = [whose_turn(people, "Tom", step) for step in range(6)]
    assert turns == ["Elena", "Tom", "Amara", "Tom", "Tom", "Tom"]
    with pytest.raises(StageError, match="--often: expected one of Elena"):
        whose_turn(people, "Nobody", 0)


def test_the_story_tells_every_run_that_led_here(tmp_path) -> None:
    first = ComposerStageConfig(run=RunOptions(out=tmp_path, steps=300, seed=1))
    (tmp_path / "best.json").write_text(json.dumps({"training": training_of(first, 300)}))
    second = ComposerStageConfig(
        start=tmp_path / "best.safetensors", often="Amara", paint_batch=3, turn_batch=1, run=RunOptions(seed=2)
    )
    told = training_of(second, 50)
    assert [(part["steps"], part["images"], part["seed"]) for part in told] == [(300, 1800, 1), (50, 200, 2)]
    assert told[1]["every_other_step"] == "Amara"
    nowhere = ComposerStageConfig(start=tmp_path / "other.safetensors", run=RunOptions(steps=1))
    assert len(training_of(nowhere, 1)) == 1
