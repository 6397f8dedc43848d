"""The animator on a working pack: the mouth follows the sound, time is exact, cutting up changes nothing."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import packs
import pytest

import engine
import engine.idle
from engine.animator import Animator, newest_hop, straighten
from engine.avatar import Avatar, open_avatar
from engine.controls import Controls, parse_emotion, parse_pose

STILL = Controls(idle=0, gaze_mode="fixed")
RATE = 16_000


@pytest.fixture(scope="module")
def avatar(tiny_pack: Path) -> Avatar:
    return open_avatar(tiny_pack)


def bursts(seconds: float = 2.0) -> np.ndarray:
    """Half a second of silence, half a second of tone, and so on."""
    t = np.arange(int(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 200 * t) * (t % 1 >= 0.5)).astype(np.float32)


def play(animator: Animator, samples: np.ndarray, chunk: int, controls: Controls = STILL) -> list[engine.Frame]:
    frames = []
    for start in range(0, len(samples), chunk):
        animator.push(samples[start : start + chunk])
        while animator.frames_due():
            frames.append(animator.next_frame(controls))
    return frames


def test_loud_opens_the_mouth_in_time(avatar: Avatar) -> None:
    frames = play(Animator(avatar), bursts(), 160)
    jaw = np.array([f.expression[packs.JAW] for f in frames])
    times = np.array([float(f.time) for f in frames])
    loud = times % 1 >= 0.5
    assert jaw[loud].mean() > 0.9
    assert jaw[~loud].mean() < 0.2
    # The picture says it too: the mouth is dark red when open.
    mouth = np.array([f.rgba[76:84, 60:68, 1].mean() for f in frames])
    assert mouth[jaw > 0.95].max() < mouth[jaw < 0.05].min() - 30


def test_frames_are_due_exactly_when_their_last_hop_is_heard(avatar: Avatar) -> None:
    animator = Animator(avatar)
    drawn = []
    for hop in range(200):
        animator.push(np.zeros(160, np.float32))
        while animator.frames_due():
            frame = animator.next_frame(STILL)
            drawn.append((frame.index, hop, frame.newest_sample))
    assert [index for index, _, _ in drawn] == list(range(len(drawn)))
    for index, hop, newest in drawn:
        due = int(Fraction(index * 16000, 30) / 160) - 1 + avatar.lookahead_hops
        assert hop == max(due, 0)
        assert newest == (due + 1) * 160


def test_frames_due_counts_right(avatar: Avatar) -> None:
    for hops in (1, 3, 4, 5, 17, 100, 101, 103):
        animator = Animator(avatar)
        animator.push(np.zeros(160 * hops, np.float32))
        due = animator.frames_due()
        assert due == sum(newest_hop(k, avatar.lookahead_hops) < hops for k in range(1000))
        for _ in range(due):
            animator.next_frame(STILL)
        with pytest.raises(ValueError, match="push more"):
            animator.next_frame(STILL)


@pytest.mark.parametrize("chunk", [1000, 533, 7])
def test_cutting_up_changes_nothing(avatar: Avatar, chunk: int) -> None:
    sound = bursts(0.8)
    whole, pieces = (
        play(Animator(avatar), sound, len(sound), Controls()),
        play(Animator(avatar), sound, chunk, Controls()),
    )
    assert len(whole) == len(pieces) > 20
    for a, b in zip(whole, pieces):
        assert np.array_equal(a.rgba, b.rgba)


def test_skipping_draws_the_newest_and_loses_no_sound(avatar: Avatar) -> None:
    sound = bursts(1.5)
    every = play(Animator(avatar), sound, len(sound), Controls())
    late = Animator(avatar)
    late.push(sound)
    skipped = late.skip_to_newest()
    frame = late.next_frame(Controls())
    assert late.frames_due() == 0
    assert skipped == late.skipped == len(every) - 1
    assert frame.index == every[-1].index
    assert np.array_equal(frame.rgba, every[-1].rgba)


def test_reset_is_a_new_beginning(avatar: Avatar) -> None:
    animator = Animator(avatar)
    first = play(animator, bursts(0.7), 160)
    animator.reset()
    again = play(animator, bursts(0.7), 160)
    assert all(np.array_equal(a.rgba, b.rgba) and a.index == b.index for a, b in zip(first, again, strict=True))


def test_every_control_shows(avatar: Avatar) -> None:
    def picture(controls: Controls) -> np.ndarray:
        animator = Animator(avatar)
        animator.push(np.zeros(1600, np.float32))
        return animator.next_frame(controls).rgba.astype(int)

    plain = picture(STILL)
    changes = {
        "emotion": Controls(idle=0, gaze_mode="fixed", emotion=parse_emotion("happy")),
        "intensity": Controls(idle=0, gaze_mode="fixed", emotion=parse_emotion("happy"), intensity=0.3),
        "pose": Controls(idle=0, gaze_mode="fixed", pose=parse_pose("yaw=15,roll=5")),
        "shift": Controls(idle=0, gaze_mode="fixed", shift=(1.0, 0.5, 0)),
        "gaze": Controls(idle=0, gaze_mode="fixed", gaze=(0.3, 0)),
        "blink": Controls(idle=0, gaze_mode="fixed", blink=1.0),
        "person": Controls(idle=0, gaze_mode="fixed", person="dina"),
    }
    pictures = {name: picture(controls) for name, controls in changes.items()}
    for name, changed in pictures.items():
        assert np.abs(changed - plain).max() > 20, name
    assert np.abs(pictures["emotion"] - pictures["intensity"]).max() > 10


def test_motion_is_kept_within_what_the_avatar_knows(avatar: Avatar) -> None:
    animator = Animator(avatar)
    animator.push(np.zeros(1600, np.float32))
    far = engine.idle.Motion(*(np.full(n, 99, np.float32) for n in (6, 3, 3, 2, 1)))
    frame = animator.next_frame_moving(far)
    assert frame.expression is not None
    assert frame.expression[packs.BLINK_L] == 1.0  # not 99


def test_person_changes_softly(avatar: Avatar) -> None:
    animator = Animator(avatar, "ada")
    animator.push(np.zeros(RATE, np.float32))
    ada = animator.next_frame(STILL).rgba.astype(int)
    changing = [
        animator.next_frame(Controls(idle=0, gaze_mode="fixed", person="bo")).rgba.astype(int) for _ in range(12)
    ]
    assert animator.person == "bo"
    steps = [np.abs(b - a).mean() for a, b in zip([ada, *changing], changing)]
    assert max(steps[:9]) < 0.3 * np.abs(changing[-1] - ada).mean()
    assert steps[-1] == 0
    fresh = Animator(avatar, "bo")
    fresh.push(np.zeros(RATE, np.float32))
    assert np.array_equal(changing[-1], fresh.next_frame(STILL).rgba)


def test_rgba_packs_draw_too(tiny_rgba_pack: Path) -> None:
    frames = play(Animator(open_avatar(tiny_rgba_pack)), bursts(0.8), 160)
    colour, alpha = frames[-1].rgba[..., :3], frames[-1].rgba[..., 3:]
    assert (colour <= alpha).all()
    assert 0 < (alpha == 255).mean() < 1
    assert frames[-1].expression[packs.JAW] > 0.9


def test_more_than_a_minute_behind_is_skipped_not_wrong(avatar: Avatar) -> None:
    animator = Animator(avatar)
    animator.push(np.zeros(RATE * 62, np.float32))
    assert animator.frames_due() > 61 * 30
    frame = animator.next_frame(STILL)
    assert 50 < frame.index < 80
    assert animator.skipped == frame.index


def test_bad_samples_are_refused(avatar: Avatar) -> None:
    with pytest.raises(ValueError, match="float32"):
        Animator(avatar).push(np.zeros(160))


def test_straighten_undoes_premultiplying() -> None:
    picture = np.array([[[40, 20, 10, 51], [200, 100, 50, 255], [0, 0, 0, 0], [9, 0, 0, 0]]], np.uint8)
    assert straighten(picture).tolist() == [[[200, 100, 50, 51], [200, 100, 50, 255], [0, 0, 0, 0], [0, 0, 0, 0]]]


def test_the_example_in_the_docstring_runs(tiny_pack: Path, tmp_path: Path) -> None:
    text = engine.__doc__ or ""
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    assert len(lines) >= 10
    example = "\n".join(lines).replace("cast.avatar", str(tiny_pack))
    example += "\nassert picture.shape == (128, 128, 4) and frame.index == 29, frame.index"
    exec(compile(example, "example", "exec"), {})


def test_importing_the_engine_loads_no_threads_or_torch() -> None:
    code = "import sys, engine; print([m for m in ('torch', 'PyQt6', 'sounddevice', 'openvino', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
