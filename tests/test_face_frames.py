"""Frames rendered for the decoder: their truth must be true. Needs the head pack."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.frames import Conditions, FrameStore, random_conditions
from training.data.person_maps import PersonRig, low_rank, person_maps
from training.models.composer import paint_face, premultiply
from training.models.painter import FaceMotion
from training.models.surface import Box
from training.rig.expressions import expression
from training.rig.person import TOM

needs_pack = pytest.mark.skipif(
    not Path(os.environ.get("MOUTHPIECE_HEAD_PACK", "")).is_file(),
    reason="needs the face model: set MOUTHPIECE_HEAD_PACK to a head pack",
)
BOX = (136, 136, 240, 288)


def test_low_rank_keeps_what_faces_use():
    rng = np.random.default_rng(0)
    basis = (rng.normal(size=(60, 12)) @ rng.normal(size=(12, 300))).astype(np.float32)
    mix, motion = low_rank(basis, 12)
    np.testing.assert_allclose(mix @ motion, basis, atol=1e-3)


def test_random_conditions_are_seeded_and_within_range():
    a, b = (random_conditions(np.random.default_rng(4), 200) for _ in range(2))
    np.testing.assert_array_equal(a.expression, b.expression)
    assert np.abs(a.pose).max(0) == pytest.approx(np.radians([25, 15, 15]), rel=0.1)
    assert a.blink.min() == 0
    assert a.blink.max() == 1


@needs_pack
def test_truth_of_a_frame(tmp_path: Path):
    """The still, moved by the true flow, is the frontal frame where skin is visible; blend shapes alone find that flow."""
    rig = PersonRig(TOM, supersample=1)
    stills, maps = person_maps(rig, BOX, 24)
    conditions = Conditions(
        expression({"mouthSmile": 0.6, "jawOpen": 0.3, "browInnerUp": 0.5})[None],
        np.float32([[0.3, 0.1, -0.1]]),
        np.zeros((1, 3), np.float32),
        np.zeros((1, 2), np.float32),
        np.zeros(1, np.float32),
    )
    store = FrameStore(tmp_path, 1, BOX)
    store.render(rig, maps["surface"], store.begin(conditions), 0)
    store.mark(1)
    assert FrameStore(tmp_path, 1, BOX).done == 1

    still = premultiply(torch.from_numpy(stills[:1]).permute(0, 3, 1, 2).float() / 255)
    twin = premultiply(torch.from_numpy(store.twin[:1]).permute(0, 3, 1, 2).float() / 255)
    flow, known = torch.from_numpy(store.twin_flow[:1].astype(np.float32)), torch.from_numpy(store.twin_known[:1])
    known = known.bool().unsqueeze(1)
    assert known.float().mean() > 0.6
    nothing = {"paint": torch.zeros(1, 4, BOX[3] // 4, BOX[2] // 4)}
    asked, straight = nothing | {"paint_flow": flow}, nothing | {"paint_flow": flow * 0}
    skin = torch.nn.functional.interpolate(known.float(), scale_factor=4)
    moved = ((paint_face(asked, still, Box(*BOX), {}) - twin).abs() * skin).mean()
    unmoved = ((paint_face(straight, still, Box(*BOX), {}) - twin).abs() * skin).mean()
    assert moved < 0.7 * unmoved

    motion = FaceMotion(torch.from_numpy(rig.view_projection), torch.from_numpy(rig.pivot), 512, Box(*BOX))
    x, y, w, h = (v // 4 for v in BOX)
    surface = torch.from_numpy(maps["surface"][:1, :, y : y + h, x : x + w])
    found, _ = motion(
        torch.from_numpy(conditions.expression), surface, *(torch.from_numpy(maps[n]) for n in ("motion_mix", "motion"))
    )
    miss = (found - flow).norm(dim=1, keepdim=True)[known]
    assert flow.norm(dim=1, keepdim=True)[known].mean() > 1.5
    assert miss.median() < 0.3
    assert store.turned_seen[0, 0].mean() > 0.25
