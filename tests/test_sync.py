"""The offset between sound and lips, found from acted speech whose truth is known."""

import numpy as np
import pytest

from training.data import sync
from training.data.clip import FPS, RATE


@pytest.fixture(scope="module")
def acted():
    """Ten seconds of a synthetic voice that the net was not taught with this text, and the lips that go with it."""
    from training.data.proof import TEXT
    from training.rig.landmarks import LandmarkModel
    from training.rig.pack import HeadPackError, load_pack
    from training.rig.performance import perform
    from training.rig.person import Person
    from training.rig.speech import available, synthesise
    from training.rig.voices import SYNTHETIC

    if not available("flite", "slt"):
        pytest.skip("flite is not installed: no speech to act")
    try:
        face = LandmarkModel(load_pack(), Person.from_seed(7001))
    except HeadPackError as error:
        pytest.skip(str(error))
    spoken = synthesise(SYNTHETIC["flite-slt"], TEXT)
    show = perform(spoken.phones, spoken.audio, [(0.0, "happy", 0.6)], face, 3)
    still = np.zeros_like(show.pose)
    points = face.project(show.expression, still, still, show.gaze * 0, show.blink * 0, 512)
    width = np.linalg.norm(points[:, 60] - points[:, 64], axis=1)
    return spoken.audio, np.arange(len(width)) / FPS, face.aperture(show.expression), width


@pytest.mark.parametrize("late_ms", [-200.0, -80.0, 0.0, 40.0, 130.0])
def test_offset_within_20_ms(acted, late_ms):
    audio, times, aperture, width = acted
    shift = round(abs(late_ms) / 1000 * RATE)
    silence = np.zeros(shift, np.float32)
    moved = np.concatenate([silence, audio]) if late_ms > 0 else np.concatenate([audio[shift:], silence])
    found = sync.estimate(moved[: len(audio)], times, aperture, width)
    assert found.sure
    assert abs(found.seconds * 1000 - late_ms) < 20


def test_uneven_picture_times(acted):
    """A variable frame rate changes nothing: signals are read at their times."""
    audio, times, aperture, width = acted
    keep = np.random.default_rng(0).random(len(times)) > 0.3
    found = sync.estimate(audio, times[keep], aperture[keep], width[keep])
    assert found.sure
    assert abs(found.seconds) < 0.02


def test_another_speech_is_not_sure(acted):
    """Lips of one sentence under the sound of another: the number is given, but not vouched for."""
    audio, times, aperture, width = acted
    found = sync.estimate(np.ascontiguousarray(audio[::-1]), times, aperture, width)
    assert not found.sure


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.5])
def test_too_little_to_tell(seconds):
    audio = np.zeros(int(seconds * RATE), np.float32)
    times = np.arange(int(seconds * FPS)) / FPS
    found = sync.estimate(audio, times, np.zeros(len(times)), np.zeros(len(times)))
    assert (found.seconds, found.confidence) == (0.0, 0.0)


def test_features_ignore_loudness():
    sound = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    np.testing.assert_allclose(sync.features(sound), sync.features(sound * 0.01), atol=2e-3)
