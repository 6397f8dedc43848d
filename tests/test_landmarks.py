"""The landmark worker, the calibration that reads its mesh, and the whole of prepare against rig truth where both are there."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from training.data import expression, face, landmarks
from training.data.landmarks import LandmarkError, MediapipeLandmarker, find_python


@pytest.fixture(scope="module")
def mediapipe():
    try:
        landmarker = MediapipeLandmarker()
    except LandmarkError as error:
        pytest.skip(str(error))
    yield landmarker
    landmarker.close()


@pytest.fixture(scope="module")
def renderer():
    from training.rig.pack import HeadPackError
    from training.rig.renderer import Renderer

    try:
        drawn = Renderer(256)
    except HeadPackError as error:
        pytest.skip(str(error))
    from training.rig.person import Person

    drawn.set_person(Person.from_seed(7010))  # nobody the calibration has seen
    return drawn


def turned_mesh(pose, scale=20.0, place=(250.0, 330.0)) -> np.ndarray:
    """The calibration's own template, posed, as mediapipe would give it: [1, 478, 3]."""
    from training.rig.mesh import rotation

    head = face.calibration()["template"].astype(np.float64)
    head = np.concatenate([head, head[[33] * 10]])  # irises
    posed = head @ rotation(pose).T * scale
    return (posed * (1, -1, -1) + (*place, 7.0))[None]


@pytest.mark.parametrize("pose", [(0, 0, 0), (0.5, 0, 0), (0, -0.3, 0), (0, 0, 0.4), (-0.4, 0.25, -0.2)])
def test_pose_scale_and_place_are_read_back(pose):
    mesh, known = turned_mesh(pose), face.calibration()
    turn, _, _ = face.align(mesh[:, :468] * (1, -1, -1), known["template"], known["rigid"])
    np.testing.assert_allclose(face.pose_of(turn)[0], pose, atol=1e-4)
    faces = face.read(mesh)
    assert np.degrees(np.abs(faces.pose[0] - pose)).max() < 8  # what the correction of mediapipe's errors may do
    np.testing.assert_allclose(faces.pixels_per_cm, 20.0, rtol=1e-4)
    np.testing.assert_allclose(faces.pivot[0], (250, 330), atol=0.01)


def test_landmarks_move_with_the_picture():
    """Shifted, scaled and turned in the plane: so are the 68 points, exactly; lips and lids do not change."""
    rng = np.random.default_rng(0)
    mesh = turned_mesh((0.2, 0.1, 0.0)) + rng.normal(0, 1.0, (1, 478, 3))
    angle = 0.3
    spin = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = mesh @ spin.T * 1.7 + (40.0, -25.0, 0.0)
    a, b = face.read(mesh), face.read(moved)
    np.testing.assert_allclose(b.landmarks, (a.landmarks @ spin[:2, :2].T * 1.7 + (40, -25)), atol=1e-2)
    np.testing.assert_allclose(b.aperture, a.aperture, atol=1e-5)
    np.testing.assert_allclose(b.opening, a.opening, atol=1e-5)


def test_weights_sum_to_one():
    np.testing.assert_allclose(face.calibration()["weight"].sum(1), 1, atol=1e-5)


def test_blink_goes_from_open_to_shut():
    shut, full = face.calibration()["lids"]
    lids = np.concatenate([np.full(40, 0.3), np.linspace(0.3, 0.3 * shut / full, 10)])
    blink = face.blink(lids)
    assert blink[:40].max() < 0.1
    assert blink[-1] > 0.9
    assert (np.diff(blink[40:]) >= 0).all()


def test_expression_of_the_average_face_is_the_mean():
    known = expression.fit()
    face_of_mean = np.zeros((4, 68, 3), np.float32)
    face_of_mean[:, expression.USED, :2] = (known["rest"] + known["shown"]).reshape(-1, 2)
    np.testing.assert_allclose(expression.read(face_of_mean), np.tile(known["mean"], (4, 1)), atol=1e-4)


def test_mouth_shapes_are_read_from_landmarks(renderer):
    """Another person's true landmarks, with a pixel of noise, give back jaw and lips."""
    from training.data.learn_expression import _frontal
    from training.rig.expressions import INDEX, VISEME_WEIGHTS
    from training.rig.landmarks import LandmarkModel

    model = LandmarkModel(renderer.pack, renderer.person)
    rng = np.random.default_rng(0)
    true = VISEME_WEIGHTS[rng.integers(len(VISEME_WEIGHTS), size=200)] * rng.uniform(0.5, 1, (200, 1)).astype(
        np.float32
    )
    upright = _frontal(model, true, renderer.pack)
    found = expression.read(upright + rng.normal(0, 0.08, upright.shape))
    for name, least in (("jawOpen", 0.8), ("mouthPucker", 0.7), ("mouthLowerDown_L", 0.6)):
        assert np.corrcoef(true[:, INDEX[name]], found[:, INDEX[name]])[0, 1] > least, name
    assert np.corrcoef(model.aperture(true), model.aperture(found))[0, 1] > 0.9


def test_without_an_environment_the_remedy_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(landmarks.ENVIRONMENT_VARIABLE, str(tmp_path / "python"))
    with pytest.raises(LandmarkError, match="--setup"):
        find_python()
    assert landmarks.main() == 1
    assert "--setup" in capsys.readouterr().err


def test_a_python_that_cannot_run_is_named(tmp_path):
    with pytest.raises(LandmarkError, match="cannot run"):
        MediapipeLandmarker(tmp_path / "nope")


def test_a_python_without_mediapipe_is_told_apart():
    with pytest.raises(LandmarkError, match=r"mediapipe.*--setup"):
        MediapipeLandmarker(Path(sys.executable))


def test_setup_leaves_a_strange_folder_alone(tmp_path):
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(LandmarkError, match="empty folder"):
        landmarks.set_up(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.doc"]


def test_a_worker_that_dies_is_an_error_not_a_hang(mediapipe):
    landmarker = MediapipeLandmarker()
    landmarker._process.kill()
    with pytest.raises(LandmarkError, match="stopped"):
        landmarker.boxes(np.zeros((64, 64, 3), np.uint8))
    landmarker.close()


def test_nobody_there(mediapipe):
    grey = np.full((240, 320, 3), 128, np.uint8)
    assert mediapipe.boxes(grey).shape == (0, 5)
    assert mediapipe.mesh(grey) is None


def test_two_faces_are_two_boxes(mediapipe, renderer):
    picture = show(renderer)
    assert len(mediapipe.boxes(np.hstack([picture, picture]))) == 2


def show(renderer, pose=(0, 0, 0), gaze=(0, 0), blink=0.0) -> np.ndarray:
    from training.data.learn_faces import backdrop, over
    from training.rig.expressions import VISEME_WEIGHTS

    rgba = renderer.render(VISEME_WEIGHTS[1], pose, (0, 0, 0), gaze, blink)
    return over(rgba, backdrop(256, np.random.default_rng(3)))


@pytest.mark.parametrize("pose", [(0, 0, 0), (0.35, 0, 0), (-0.35, 0.1, 0.1), (0, 0.2, -0.2)])
def test_landmarks_and_pose_of_an_unseen_person(mediapipe, renderer, pose):
    from training.data.track import look_once

    faces = face.read(look_once(show(renderer, pose), mediapipe)[None])
    off = np.linalg.norm(faces.landmarks[0] - renderer.landmarks, axis=1)
    assert off.mean() < 3
    assert np.degrees(np.abs(faces.pose[0] - pose)).max() < 6  # one picture; the mean over films is held to 4


def test_gaze_and_lids_of_an_unseen_person(mediapipe, renderer):
    from training.data.track import look_once

    def read(**state):
        return face.read(look_once(show(renderer, **state), mediapipe)[None])

    left, right = read(gaze=(-0.3, 0)), read(gaze=(0.3, 0))
    assert 0.25 < right.gaze[0, 0] - left.gaze[0, 0] < 1.0
    assert read(blink=1.0).opening[0] < 0.6 * read().opening[0]


@pytest.mark.slow
def test_prepared_film_against_the_truth(mediapipe, renderer, tmp_path):
    """A short film through the whole of prepare. The full set with sound offsets: python -m training.data.proof OUT."""
    from training.data import proof
    from training.rig.speech import available

    if not available("flite", "slt"):
        pytest.skip("flite is not installed: no speech to act")
    film = proof.Film(
        "short", 7010, "flite-slt", ((0.0, "happy", 0.6),), 401, 301, (256, 80, 40), 25.0, pixels="yuv444p", crf=30
    )
    person, played = proof.draw(film, tmp_path, 2.0)
    assert proof.prepare(proof.Options(tmp_path, tmp_path / "corpus", jobs=1, size=256)) == 0
    found = proof.figures(film, person, played, tmp_path / "corpus")
    assert found.landmarks_px < proof.MOST_PX
    assert max(found.pose_deg) < proof.MOST_DEG
    assert found.jitter_px < 1.0
