"""People, expressions and the small maths of the rig: needs no head pack."""

import numpy as np
import pytest
from pydantic import ValidationError

from training.rig import raster
from training.rig.expressions import (
    EMOTION_WEIGHTS,
    EMOTIONS,
    EXPRESSIONS,
    INDEX,
    VISEME_WEIGHTS,
    VISEMES,
    emotion_expression,
    expression,
    with_eyes,
)
from training.rig.mesh import Camera, rotation
from training.rig.person import SHIPPED_CAST, Person, cast
from training.rig.picture import straight_alpha


def test_tables_have_the_documented_order():
    assert len(EXPRESSIONS) == 60
    assert len(set(EXPRESSIONS)) == 60
    assert EXPRESSIONS[-3:] == ("tongueUp", "tongueOut", "tongueBack")
    assert EMOTIONS == ("anger", "disgust", "fear", "happy", "neutral", "sad")
    assert EMOTION_WEIGHTS.shape == (6, 60)
    assert VISEME_WEIGHTS.shape == (len(VISEMES), 60)
    assert not emotion_expression("neutral").any()
    assert (
        emotion_expression("happy")[INDEX["mouthSmile_L"]] == emotion_expression("happy")[INDEX["mouthSmile_R"]] > 0.5
    )


def test_a_name_without_a_side_sets_both():
    weights = expression({"eyeBlink": 0.5, "jawOpen": 0.2})
    assert weights[INDEX["eyeBlink_L"]] == weights[INDEX["eyeBlink_R"]] == 0.5
    assert weights.sum() == pytest.approx(1.2)
    with pytest.raises(KeyError):
        expression({"noSuchShape": 1.0})


def test_blink_and_gaze_reach_the_lids_as_documented():
    weights = expression({"eyeBlink": 0.2, "eyeWide": 0.4, "eyeSquint": 0.6})
    out = with_eyes(np.stack([weights, weights]), np.array([[0.1, 0.2], [0.0, -0.1]]), np.array([0.5, 1.0]))
    np.testing.assert_allclose(out[:, INDEX["eyeBlink_L"]], [0.2 + 0.8 * 0.5, 1.0], atol=1e-6)
    np.testing.assert_allclose(out[:, INDEX["eyeWide_R"]], [0.2, 0.0], atol=1e-6)
    np.testing.assert_allclose(out[:, INDEX["eyeSquint_R"]], [0.3, 0.0], atol=1e-6)
    np.testing.assert_allclose(out[:, INDEX["eyeLookUp_L"]], [0.32, 0.0], atol=1e-6)
    np.testing.assert_allclose(out[:, INDEX["eyeLookDown_L"]], [0.0, 0.16], atol=1e-6)
    assert weights[INDEX["eyeWide_L"]] == np.float32(0.4), "the caller's weights stay as they are"


def test_people_survive_json_and_repeat_from_their_seed():
    for person in (*SHIPPED_CAST, Person.from_seed(5)):
        assert Person.from_json(person.to_json()) == person
    assert Person.from_seed(5) == Person.from_seed(5)
    assert Person.from_seed(5) != Person.from_seed(6)
    with pytest.raises(ValidationError):
        Person.from_json('{"name": "Nobody"}')


def test_a_cast_is_varied():
    people = cast(24, seed=0)
    assert people == cast(24, seed=0)
    assert len({p.name for p in people}) == 24
    assert {p.sex for p in people} == {"female", "male"}
    assert len({p.complexion for p in people}) == 6
    assert len({p.hair.kind for p in people}) >= 8
    assert min(p.age for p in people) < 26
    assert max(p.age for p in people) > 55
    assert 2 <= sum(p.glasses is not None for p in people) <= 10
    assert len({p.clothes.kind for p in people}) >= 4
    shapes = np.array([p.shape for p in people])
    apart = np.linalg.norm(shapes[:, None] - shapes[None], axis=-1)[~np.eye(24, dtype=bool)]
    assert apart.min() > 2.0
    for person in people:
        assert person.voice.sex == person.sex
        assert (person.voice.pitch_hz > 150) == (person.sex == "female")
        assert person.beard.amount == 0 or person.sex == "male"


def test_the_shipped_cast_is_two_women_and_two_men_of_different_age_and_complexion():
    assert sorted(p.sex for p in SHIPPED_CAST) == ["female", "female", "male", "male"]
    assert len({p.complexion for p in SHIPPED_CAST}) == 4
    assert len({p.age // 10 for p in SHIPPED_CAST}) >= 3
    assert len({p.name for p in SHIPPED_CAST}) == 4


def test_rotation_is_yaw_then_pitch_then_roll():
    def about(axis, angle):
        c, s = np.cos(angle), np.sin(angle)
        out = np.eye(3)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        out[i, i] = out[j, j] = c
        out[i, j], out[j, i] = -s, s
        return out

    pose = np.array([0.4, -0.3, 0.2])
    np.testing.assert_allclose(rotation(pose), about(1, 0.4) @ about(0, -0.3) @ about(2, 0.2), atol=1e-12)
    assert rotation(np.stack([pose, 2 * pose])).shape == (2, 3, 3)
    nose = np.array([0, 0, 1.0])
    assert (rotation((0.3, 0, 0)) @ nose)[0] > 0, "yaw turns the nose to the picture's right"
    assert (rotation((0, 0.3, 0)) @ nose)[1] < 0, "pitch lowers it"
    assert (rotation((0, 0, 0.3)) @ np.array([0, 1.0, 0]))[0] < 0, "roll turns anticlockwise"


def test_camera_shows_up_as_up_and_left_as_right():
    camera = Camera.portrait(200)
    centre, up, left = camera.project([[0, 0.6, 0], [0, 5.6, 0], [5, 0.6, 0]])
    np.testing.assert_allclose(centre, [100, 100], atol=0.1)
    assert up[1] < centre[1]
    assert left[0] > centre[0]
    np.testing.assert_allclose(left[0] - centre[0], 5 / 38 * 200, rtol=0.01)


def test_neighbouring_triangles_leave_no_pinholes():
    rng = np.random.default_rng(0)
    n = 12
    grid = np.stack(np.meshgrid(np.linspace(3, 61, n), np.linspace(3, 61, n)), -1)
    grid[1:-1, 1:-1] += rng.uniform(-1.7, 1.7, (n - 2, n - 2, 2))
    screen = np.concatenate([grid.reshape(-1, 2), np.full((n * n, 1), 0.5)], 1).astype(np.float32)
    a = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    tri = np.concatenate([np.stack([a, a + n, a + 1], 1), np.stack([a + 1, a + n, a + n + 1], 1)]).astype(np.int32)
    depth, tri_id = np.full((64, 64), 9, np.float32), np.full((64, 64), -1, np.int32)
    attr, material = np.zeros((n * n, 6), np.float32), np.zeros(len(tri), np.int32)
    raster.rasterize(screen, tri, material, attr, 0, len(tri), depth, tri_id, 1.0)
    assert (tri_id[3:61, 3:61] >= 0).all()
    assert (tri_id[:3] < 0).all()
    assert (tri_id[:, 61:] < 0).all()
    tri_id.fill(-1)
    raster.rasterize(screen, tri[:, ::-1].copy(), material, attr, 0, len(tri), depth, tri_id, 1.0)
    assert (tri_id < 0).all(), "triangles seen from behind are not drawn"


def test_straight_alpha_recovers_colour_and_fills_empty_pixels():
    premultiplied = np.zeros((32, 32, 4), np.float32)
    premultiplied[8:24, 8:24] = (200, 100, 50, 1)
    premultiplied[8:24, 8] = (50, 25, 12.5, 0.25)
    out = straight_alpha(premultiplied.copy())
    np.testing.assert_array_equal(out[12, 12], (200, 100, 50, 255))
    np.testing.assert_array_equal(out[12, 8], (200, 100, 50, 64))
    assert (out[0, 0, 3], out[31, 31, 3]) == (0, 0)
    np.testing.assert_allclose(out[..., :3].reshape(-1, 3), np.broadcast_to((200, 100, 50), (1024, 3)), atol=1)
    assert not straight_alpha(np.zeros((16, 16, 4), np.float32)).any()
