"""The renderer on real geometry: pictures, landmarks, lips and correspondence. Skips without a head pack."""

import cv2
import numpy as np
import pytest

from training.rig.expressions import EMOTION_WEIGHTS, VISEME_WEIGHTS, emotion_expression, viseme_expression
from training.rig.pack import HeadPackError, load_pack
from training.rig.person import SHIPPED_CAST
from training.rig.renderer import HAIR, HEAD, INSIDE_MOUTH, Renderer

REST = emotion_expression("neutral")


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    try:
        pack = load_pack()
    except HeadPackError as error:
        pytest.skip(str(error))
    out = Renderer(192, pack=pack)
    out.set_person(SHIPPED_CAST[2])
    return out


def lip_gap(landmarks):
    return landmarks[..., 66, 1] - landmarks[..., 62, 1]


def lid_gap(landmarks):
    return (landmarks[..., [40, 41, 46, 47], 1] - landmarks[..., [38, 37, 44, 43], 1]).mean(-1)


def test_picture_has_a_clean_alpha(renderer):
    picture = renderer.render(REST)
    assert picture.shape == (192, 192, 4)
    assert picture.dtype == np.uint8
    alpha = picture[..., 3]
    assert alpha[0].max() == 0
    assert alpha[100, 96] == 255
    assert alpha[-1, 80:110].min() == 255, "the shoulders run out of the picture"
    soft = (alpha > 0) & (alpha < 255)
    assert 0.002 < soft.mean() < 0.1
    # empty pixels beside the person carry the person's colour, not black: nothing to bleed in when scaled
    beside = (cv2.dilate((alpha > 0).astype(np.uint8), np.ones((5, 5))) > 0) & (alpha == 0)
    near = cv2.blur(picture[..., :3].astype(np.float32) * (alpha[..., None] > 0), (7, 7))
    near /= np.maximum(cv2.blur((alpha > 0).astype(np.float32), (7, 7)), 1e-3)[..., None]
    assert np.abs(picture[beside][:, :3] - near[beside]).mean() < 20
    np.testing.assert_array_equal(renderer.render(REST), picture)


def test_landmarks_need_no_drawing_and_run_over_frames(renderer):
    rng = np.random.default_rng(1)
    n = 5
    weights = rng.uniform(0, 0.4, (n, 60)).astype(np.float32)
    pose, shift = rng.normal(0, 0.15, (n, 3)), rng.normal(0, 0.4, (n, 3))
    gaze, blink = rng.normal(0, 0.1, (n, 2)), rng.uniform(0, 1, n)
    together = renderer.landmarks_for(weights, pose, shift, gaze, blink)
    assert together.shape == (n, 68, 2)
    renderer.render(weights[2], pose[2], shift[2], gaze[2], blink[2])
    np.testing.assert_allclose(renderer.landmarks, together[2], atol=1e-3)
    frontal = renderer.landmarks_for(weights[2], gaze=gaze[2], blink=blink[2])
    np.testing.assert_allclose(renderer.landmarks_frontal, frontal, atol=1e-3)


def test_landmarks_lie_on_the_vertices_that_are_drawn(renderer):
    renderer.render(viseme_expression("A"), pose=(0.2, 0.1, 0.05), shift=(0.5, 0.2, 0), gaze=(0.1, -0.2), blink=0.3)
    corner_of_vertex = np.zeros(len(renderer.pack.mean), int)
    corner_of_vertex[renderer.pack.corner_vertex] = np.arange(len(renderer.pack.corner_vertex))
    drawn = renderer._screen[corner_of_vertex[renderer.pack.landmarks], :2] / renderer.supersample
    np.testing.assert_allclose(renderer.landmarks, drawn, atol=0.02)


def test_pose_moves_the_nose_as_documented(renderer):
    nose = 30
    still = renderer.landmarks_for(REST)[nose]
    assert renderer.landmarks_for(REST, pose=(0.3, 0, 0))[nose, 0] > still[0] + 5
    assert renderer.landmarks_for(REST, pose=(0, 0.2, 0))[nose, 1] > still[1] + 3
    assert renderer.landmarks_for(REST, pose=(0, 0, 0.2))[nose, 0] < still[0] - 3
    np.testing.assert_allclose(renderer.landmarks_for(REST, shift=(1, 0, 0))[nose] - still, (192 / 38, 0), atol=1.0)


def test_rest_is_relaxed_and_lips_close_but_never_cross(renderer):
    px_per_cm = 192 / 38
    assert lip_gap(renderer.landmarks_for(REST)) < 0.02 * px_per_cm, "lips are closed at rest"
    frames = np.concatenate([VISEME_WEIGHTS, VISEME_WEIGHTS + EMOTION_WEIGHTS[3], EMOTION_WEIGHTS]).astype(np.float32)
    shut = renderer.landmarks_for(renderer.fix_lips(frames, np.ones(len(frames))))
    assert lip_gap(shut).max() < 0.0
    assert lip_gap(shut).min() > -0.16 * px_per_cm
    opened = renderer.fix_lips(frames, np.zeros(len(frames)))
    assert lip_gap(renderer.landmarks_for(opened)).min() > -0.16 * px_per_cm
    wide = renderer.fix_lips(viseme_expression("A")[None], np.zeros(1))
    np.testing.assert_array_equal(wide[0], viseme_expression("A"))


def test_a_blink_closes_the_eyes(renderer):
    half_open, shut = renderer.landmarks_for(np.stack([REST, REST]), blink=[0.0, 1.0])
    assert lid_gap(shut) < 0.2 * lid_gap(half_open)
    eye_left = renderer.pack.triangle_material
    renderer.render(REST)
    seen = renderer._materials[renderer._tri_id[renderer._tri_id >= 0]]
    renderer.render(REST, blink=1.0)
    left = renderer._materials[renderer._tri_id[renderer._tri_id >= 0]]
    assert eye_left.max() == 6
    assert np.isin(left, (4, 5)).sum() < 0.03 * np.isin(seen, (4, 5)).sum(), "no sliver of the eyeball stays visible"


def test_correspondence_is_the_identity_at_rest(renderer):
    picture = renderer.render(REST)
    rest, layer = renderer.correspondence()
    assert rest.dtype == np.float32
    assert layer.dtype == np.uint8
    assert np.isnan(rest[layer == 0]).all()
    assert {HEAD, HAIR} <= set(np.unique(layer))
    rows, columns = np.nonzero(layer)
    off = renderer.project(rest[rows, columns]) - np.stack([columns + 0.5, rows + 0.5], 1)
    assert np.abs(off).max() < 0.05
    assert ((picture[..., 3] > 127) == (layer > 0)).mean() > 0.99


def test_correspondence_finds_the_colours_of_a_turned_head_in_the_still(renderer):
    still = renderer.render(REST)
    turned = renderer.render(viseme_expression("A"), pose=(np.radians(20), 0, 0), gaze=(0.1, 0.0), blink=0.1)
    rest, layer = renderer.correspondence()
    at = renderer.project(np.nan_to_num(rest))
    found = cv2.remap(still[..., :3], at[..., 0] - 0.5, at[..., 1] - 0.5, cv2.INTER_LINEAR)
    skin = layer == HEAD
    matched = np.abs(found[skin].astype(float) - turned[skin][:, :3]).mean()
    unmoved = np.abs(still[skin][:, :3].astype(float) - turned[skin][:, :3]).mean()
    assert matched < 14
    assert matched < 0.45 * unmoved
    assert (layer == INSIDE_MOUTH).sum() > 20
    # brows are painted on the skin: dark in the still, dark where the turned head shows them
    assert np.corrcoef(found[skin].mean(1), turned[skin][:, :3].mean(1))[0, 1] > 0.9


def test_wrong_expressions_are_refused(renderer):
    with pytest.raises(ValueError, match=r"\[60\] weights"):
        renderer.render(np.zeros(52))
