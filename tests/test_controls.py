"""Controls are read from the command line, checked, and followed smoothly in stream time."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.controls import (
    Background,
    Controls,
    SmoothedControls,
    parse_background,
    parse_emotion,
    parse_framing,
    parse_gaze,
    parse_pose,
)
from engine.errors import ControlError


def test_parsers_read_what_people_write() -> None:
    assert parse_emotion("happy=0.7,sad=0.2") == (0, 0, 0, 0.7, 0, 0.2)
    assert parse_emotion(" fear ") == (0, 0, 1, 0, 0, 0)
    assert parse_emotion("") == (0,) * 6
    assert parse_pose("yaw=10,pitch=-5") == pytest.approx((math.radians(10), math.radians(-5), 0))
    assert parse_gaze("wander") == ("wander", (0, 0))
    assert parse_gaze("pitch=5") == ("fixed", pytest.approx((0, math.radians(5))))
    assert parse_background("#0a10ff") == Background("colour", (10, 16, 255))
    assert parse_background("green").colour == (0, 177, 64)
    assert parse_background("transparent").kind == "transparent"
    assert parse_framing("zoom=1.5,x=-0.1").zoom == 1.5


def test_background_pictures(tmp_path: pytest.TempPathFactory) -> None:
    file = tmp_path / "room.png"  # type: ignore[operator]
    file.write_bytes(b"x")
    assert parse_background(str(file)) == Background("image", image=file)
    assert parse_background(f"blur:{file}") == Background("blurred", image=file)


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (parse_emotion, "joy=1", "emotion 'joy' is unknown; choose anger"),
        (parse_emotion, "happy=much", "expected happy=NUMBER"),
        (parse_emotion, "happy=1.2", "out of range 0 .. 1"),
        (parse_emotion, "happy=nan", "out of range"),
        (parse_pose, "yaw=40", "at most 25 degrees"),
        (parse_pose, "tilt=4", "choose yaw, pitch, roll"),
        (parse_gaze, "yaw=80", "out of range"),
        (parse_background, "no/such.png", "no such picture"),
        (parse_background, "#12", "no such picture"),
        (parse_framing, "zoom=0", "out of range"),
    ],
)
def test_parsers_say_what_is_wrong(parse, text: str, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ControlError, match=words) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"emotion": (1.0,)},
        {"pose": (1, 0, 0)},
        {"blink": 2},
        {"idle": -1},
        {"blink_rate": 400},
        {"gaze_mode": "away"},
        {"intensity": math.nan},
    ],
)
def test_controls_out_of_range_are_refused(wrong: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(ControlError):
        Controls(**wrong)


def test_smoothing_arrives_without_overshoot() -> None:
    smoothed, target = SmoothedControls(), Controls(pose=(0.4, 0, 0), emotion=(0, 0, 0, 0.8, 0, 0), intensity=0.5)
    smoothed.at(0.0, Controls())
    yaws = [smoothed.at(k / 30, target).pose[0] for k in range(1, 61)]
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(yaws))
    assert yaws[0] < 0.03  # it starts gently
    assert yaws[10] > 0.9 * 0.4  # 0.35 s: within 10%
    final = smoothed.at(5.0, target)
    assert final.pose[0] == pytest.approx(0.4, abs=1e-6)
    assert final.emotion[3] * final.intensity == pytest.approx(0.4, abs=1e-6)


@given(st.lists(st.floats(0.001, 0.2), min_size=1, max_size=20))
def test_smoothing_does_not_depend_on_the_frame_rate(steps: list[float]) -> None:
    target = Controls(pose=(-0.3, 0.2, 0.1), blink=1.0)
    often, once = SmoothedControls(), SmoothedControls()
    for follower in (often, once):
        follower.at(0.0, Controls())
    seconds = 0.0
    for step in steps:
        seconds += step
        last = often.at(seconds, target)
    assert np.allclose(last.pose, once.at(seconds, target).pose, atol=1e-9)


def test_what_is_not_a_number_follows_at_once() -> None:
    smoothed = SmoothedControls()
    smoothed.at(0, Controls())
    now = smoothed.at(
        0.001, Controls(person="bo", mirror=True, gaze_mode="wander", background=parse_background("green"))
    )
    assert (now.person, now.mirror, now.gaze_mode, now.background.colour) == ("bo", True, "wander", (0, 177, 64))
