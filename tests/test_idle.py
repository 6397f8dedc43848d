"""Idle motion: human in its rates, the same for the same time, and no different after an hour."""

import numpy as np
import pytest

from engine.controls import GAZE_LIMIT, Controls
from engine.idle import blink_at, eyes_on_camera, glance_at, move
from engine.prosody import Prosody, ProsodyFollower

FPS = 30


def blinks_in(start_s: float, minutes: float, rate: float, seed: int = 0) -> np.ndarray:
    times = start_s + np.arange(int(minutes * 60 * 100)) / 100
    closed = np.array([blink_at(t, rate, seed) for t in times])
    return times[1:][(closed[1:] > 0.5) & (closed[:-1] <= 0.5)]


def test_blinks_come_at_the_asked_rate_and_irregularly() -> None:
    moments = blinks_in(0, 20, 17)
    assert 14 < len(moments) / 20 < 20
    gaps = np.diff(moments)
    assert gaps.std() > 0.5
    assert gaps.min() > 0.28  # one blink ends before the next begins
    assert len(blinks_in(0, 3, 0)) == 0
    assert len(blinks_in(0, 3, 34)) > 1.5 * len(blinks_in(0, 3, 17))


def test_a_blink_closes_quicker_than_it_opens() -> None:
    start = blinks_in(0, 1, 17)[0]
    shape = np.array([blink_at(start - 0.2 + k / 1000, 17) for k in range(600)])
    assert shape.max() == 1.0
    closing, opening = np.argmax(shape >= 0.99), len(shape) - np.argmax(shape[::-1] >= 0.99)
    first, last = np.argmax(shape > 0.01), len(shape) - np.argmax(shape[::-1] > 0.01)
    assert closing - first < last - opening
    assert np.abs(np.diff(shape)).max() < 0.03


def test_an_hour_in_is_like_the_first_minute() -> None:
    def film(start_s: float) -> np.ndarray:
        moves = [move(Controls(), start_s + k / FPS) for k in range(60 * FPS)]
        return np.array([np.concatenate([m.pose, m.shift, m.gaze, m.blink]) for m in moves])

    first, late = film(0), film(3600)
    assert np.abs(late[:, :3]).max() < 0.05  # sway stays within three degrees
    moving = [0, 1, 2, 3, 4, 6, 7, 8]  # all but the shift towards the camera, which idle motion leaves alone
    spread = late[:, moving].std(0) / first[:, moving].std(0)
    assert ((spread > 0.4) & (spread < 2.5)).all()
    # No jumps either: a frame's head motion is small.
    assert np.abs(np.diff(late[:, :3], axis=0)).max() < 0.01


def test_same_seed_same_motion_other_seed_other_motion() -> None:
    one, again, other = (move(Controls(), 12.34, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.pose, again.pose)
    assert not np.array_equal(one.pose, other.pose)


def test_idle_zero_is_still() -> None:
    controls = Controls(idle=0, pose=(0.1, 0, 0), gaze_mode="fixed", gaze=(0.2, 0.1), blink=0.3)
    moves = [move(controls, t) for t in (0.0, 3.3, 77.7)]
    for motion in moves:
        assert np.allclose(motion.pose, [0.1, 0, 0])
        assert np.allclose(motion.gaze, [0.2, 0.1])
        assert motion.blink[0] == pytest.approx(0.3)


@pytest.mark.parametrize("pose", [(0.4, 0, 0), (0, 0.2, 0), (-0.3, 0.2, 0.25)])
def test_eyes_stay_on_the_camera_as_the_head_turns(pose: tuple[float, float, float]) -> None:
    yaw, pitch, roll = pose
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    gaze_yaw, gaze_pitch = eyes_on_camera(pose)
    look = np.array([np.sin(gaze_yaw) * np.cos(gaze_pitch), np.sin(gaze_pitch), np.cos(gaze_yaw) * np.cos(gaze_pitch)])
    assert np.allclose(turn_y @ turn_x @ turn_z @ look, [0, 0, 1], atol=1e-9)


def test_camera_gaze_turns_against_the_head() -> None:
    motion = move(Controls(pose=(0.3, 0, 0), idle=0), 0)
    assert motion.gaze[0] == pytest.approx(-0.3, abs=1e-6)


def test_eyes_jump_and_rest() -> None:
    path = np.array([glance_at(k / 100, (0.2, 0.1), 0.5, 3) for k in range(6000)])
    speed = np.abs(np.diff(path, axis=0)).max(1)
    assert (speed < 1e-9).mean() > 0.8  # at rest most of the time
    assert speed.max() > 0.02  # and quick when they move
    assert np.abs(path[:, 0]).max() <= 0.2
    assert np.abs(move(Controls(gaze_mode="wander", pose=(0.4, 0.2, 0)), 5).gaze).max() <= GAZE_LIMIT


def test_the_blink_that_is_asked_for_stays() -> None:
    assert move(Controls(blink=1.0), 1.0).blink[0] == 1.0


def voice(sound: np.ndarray) -> np.ndarray:
    """[hops, 2]: stress and activity."""
    follower = ProsodyFollower()
    hops = sound[: len(sound) // 160 * 160].astype(np.float32).reshape(-1, 160)
    told = [follower.push(hop) for hop in hops]
    return np.array([(p.stress, p.activity) for p in told])


def test_stress_follows_accents_not_noise() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(16_000 * 6) / 16_000
    syllables = rng.normal(0, 0.15, len(t)) * (np.sin(2 * np.pi * 2.0 * t) > 0.3)
    said = voice(syllables)
    assert said[100:, 0].max() > 0.4
    assert said[100:, 0].min() < 0.1
    assert said[300:, 1].mean() > 0.3
    for steady in (np.zeros(len(t)), rng.normal(0, 0.003, len(t)), rng.normal(0, 0.2, len(t))):
        heard = voice(steady)[200:]
        assert heard[:, 0].max() < 0.05
        assert heard[:, 1].max() < 0.25


def test_the_head_joins_in_what_is_said() -> None:
    still, stressed = move(Controls(), 3.0), move(Controls(), 3.0, voice=Prosody(1.0, 0.0))
    assert stressed.pose[1] - still.pose[1] == pytest.approx(0.03, abs=1e-5)
    assert np.array_equal(move(Controls(idle=0), 3.0, voice=Prosody(1, 1)).pose, np.zeros(3, np.float32))
    sways = [abs(move(Controls(), t, voice=Prosody(0, a)).pose[0]) for a in (0.0, 1.0) for t in np.arange(0, 60, 0.5)]
    assert sum(sways[120:]) > 1.8 * sum(sways[:120])
