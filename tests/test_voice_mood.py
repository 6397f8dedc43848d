"""Mood and person out of the voice: read in stream time, smoothed, blended with the knobs; refused where not to be had."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import packs
import pytest
from safetensors.numpy import load_file
from syllables import RATE, voice

from engine.animator import Animator, newest_hop
from engine.avatar import Avatar, open_avatar
from engine.controls import Controls, SmoothedControls, parse_mood, parse_person
from engine.errors import AvatarError, ControlError
from engine.live import LiveConfig, LiveEngine
from engine.voice_mood import blended, hears, require_reader, shown

ANGER, HAPPY = 0, 3
AUTO = Controls(idle=0, gaze_mode="fixed", auto_emotion=1.0)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packs.build_tiny_pack(tmp_path_factory.mktemp("packs") / "voice.avatar", size=128, voice_reader=True)


@pytest.fixture(scope="module")
def avatar(pack: Path) -> Avatar:
    return open_avatar(pack)


def moods_of(animator: Animator, samples: np.ndarray, chunk: int = 1600) -> np.ndarray:
    """The mood of every frame, [n, 6], as the listener tells it while frames are drawn."""
    found = []
    for start in range(0, len(samples), chunk):
        animator.push(samples[start : start + chunk])
        while animator.frames_due():
            hop = newest_hop(animator.next_index, animator.avatar.lookahead_hops)
            found.append(animator._listener.mood(hop).copy())
            animator.next_frame(AUTO)
    return np.stack(found)


def test_the_mood_follows_the_voice_within_two_seconds(avatar: Avatar) -> None:
    animator = Animator(avatar)
    moods = moods_of(animator, np.concatenate([voice(4, False), voice(4, True)]))
    assert moods[110, ANGER] > 0.4
    assert moods[110, HAPPY] < 0.1
    assert moods[4 * 30 + 58, HAPPY] > 0.4  # not two seconds after the change
    assert moods[4 * 30 + 58, ANGER] < 0.15
    assert np.abs(np.diff(moods, axis=0)).max() < 0.15  # no jump
    assert not moods[:, 4].any()  # neutral is the absence of the others
    animator.close()


def test_whoever_is_unsure_looks_calm() -> None:
    calm = shown(np.array([0.05, 0.3, 0.05, 0.15, 0.35, 0.1], np.float32))
    assert not calm.any()
    assert not shown(np.full(6, 1 / 6, np.float32)).any()
    clear = shown(np.array([0.02, 0.06, 0.02, 0.04, 0.06, 0.8], np.float32))
    assert clear[5] > 0.9
    assert np.count_nonzero(clear) == 1
    faint = shown(np.array([0.05, 0.45, 0.05, 0.05, 0.2, 0.2], np.float32))
    assert 0.3 < faint[1] < 0.6


def test_silence_calms_slowly(avatar: Avatar) -> None:
    animator = Animator(avatar)
    moods = moods_of(animator, np.concatenate([voice(3, False), np.zeros(8 * RATE, np.float32)]))
    spoken, breath, late = moods[80, ANGER], moods[100, ANGER], moods[-1, ANGER]
    assert breath > 0.6 * spoken  # a pause between phrases does not wipe the face
    assert late < 0.2 * spoken
    animator.close()


def test_moods_do_not_depend_on_how_sound_is_cut(avatar: Avatar) -> None:
    samples = np.concatenate([voice(1, False), voice(1.5, True)])
    one, other = Animator(avatar), Animator(avatar)
    whole, parts = moods_of(one, samples, len(samples)), moods_of(other, samples, 997)
    np.testing.assert_array_equal(whole, parts)
    one.reset()
    np.testing.assert_array_equal(moods_of(one, samples, 4000), whole)
    one.close()
    other.close()


def test_the_face_shows_what_the_voice_says(avatar: Avatar) -> None:
    """The tiny pack's mouth bows with joy: its pictures differ where only the strength differs."""
    pictures = {}
    for strength in (0.0, 1.0):
        animator = Animator(avatar)
        animator.push(voice(3, True))
        animator.skip_to_newest()
        controls = Controls(idle=0, gaze_mode="fixed", auto_emotion=strength)
        pictures[strength] = animator.next_frame(controls).rgba.astype(int)
        animator.close()
    assert np.abs(pictures[0.0] - pictures[1.0]).max() > 20


def test_knobs_come_first() -> None:
    heard = np.array([0.8, 0, 0, 0, 0, 0], np.float32)
    free = blended(Controls(auto_emotion=0.5), heard)
    assert free.emotion[ANGER] == pytest.approx(0.4)
    half = blended(Controls(emotion=(0, 0, 0, 0.5, 0, 0), auto_emotion=1.0), heard)
    assert half.emotion[HAPPY] == pytest.approx(0.5)
    assert half.emotion[ANGER] == pytest.approx(0.4)
    full = blended(Controls(emotion=(0, 0, 0, 1.0, 0, 0), auto_emotion=1.0), heard)
    assert full.emotion == (0, 0, 0, 1.0, 0, 0)
    asked = Controls(emotion=(0, 0.3, 0, 0, 0, 0))
    assert blended(asked, heard) is asked


def test_the_strength_moves_smoothly() -> None:
    smooth = SmoothedControls(Controls())
    target = Controls(auto_emotion=1.0, intensity=0.5)
    path = [smooth.at(k / 30, target).auto_emotion for k in range(60)]
    assert max(np.diff(path)) < 0.1
    assert path[-1] == pytest.approx(0.5, abs=0.01)


def test_the_apps_dial_reaches_the_engine_only_where_the_avatar_hears() -> None:
    pytest.importorskip("PyQt6")
    from gui.state import Intent, change
    from gui.translation import controls_of

    wish = change(Intent(), auto_emotion=0.7)
    assert controls_of(wish, hears_emotion=True).auto_emotion == 0.7
    assert controls_of(wish).auto_emotion == 0.0


def test_the_person_is_who_the_voice_fits(avatar: Avatar) -> None:
    first, second = avatar.people[0], avatar.people[1]
    animator = Animator(avatar)
    asked = Controls(idle=0, person_from_voice=True)
    animator.push(voice(1, True))
    animator.skip_to_newest()
    animator.next_frame(asked)
    assert animator.person == first  # not enough said yet
    animator.push(voice(4, True, 1))
    animator.skip_to_newest()
    animator.next_frame(asked)
    assert animator.person == second
    animator.close()


def test_what_is_asked_is_read_from_words() -> None:
    assert parse_mood("auto") == ((0,) * 6, 1.0)
    assert parse_mood("auto=0.6,happy=0.3") == ((0, 0, 0, 0.3, 0, 0), 0.6)
    assert parse_mood("") == ((0,) * 6, 0.0)
    assert parse_person("from-voice") == (None, True)
    assert parse_person("Tom") == ("Tom", False)
    with pytest.raises(ControlError, match="emotion auto 2 is out of range"):
        parse_mood("auto=2")
    with pytest.raises(ControlError, match="joy"):
        parse_mood("auto,joy")


def test_packs_without_a_reader_verify_and_say_what_they_lack(tiny_pack: Path) -> None:
    plain = open_avatar(tiny_pack)
    assert not hears(plain)
    require_reader(plain, Controls())
    with pytest.raises(AvatarError, match="no voice reader, so emotion auto cannot be had"):
        require_reader(plain, Controls(auto_emotion=0.5))
    with pytest.raises(AvatarError, match="person from-voice"):
        LiveEngine(plain, LiveConfig(microphone="none")).set_controls(Controls(person_from_voice=True))
    animator = Animator(plain)  # controls that outlived a change of avatar do no harm
    animator.push(voice(1, True))
    animator.next_frame(Controls(auto_emotion=1.0, person_from_voice=True))
    assert animator.person == plain.people[0]
    animator.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda spec: spec["inputs"][0].update(shape=[1, 60, 5]), "voice_reader context"),
        (lambda spec: spec["outputs"][0].update(shape=[1, 5]), "voice_reader outputs"),
        (lambda spec: spec["outputs"][1].update(shape=[1, 3]), "voice_reader outputs"),
        (lambda spec: spec["inputs"][0].update(shape=[1, 2000, 6]), "1 to 1000 contexts"),
        (lambda spec: spec.update(file="elsewhere.onnx"), "elsewhere.onnx"),
    ],
)
def test_a_reader_that_does_not_fit_is_refused(pack: Path, tmp_path: Path, change, reason: str) -> None:
    copy = tmp_path / "copy.avatar"
    shutil.copytree(pack, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    change(manifest["graphs"]["voice_reader"])
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(AvatarError, match=reason):
        open_avatar(copy)


def write_wav(path: Path, samples: np.ndarray) -> Path:
    import wave

    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def render(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine", "render", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_a_film_takes_mood_and_person_from_its_speech(pack: Path, avatar: Avatar, tmp_path: Path) -> None:
    speech = write_wav(tmp_path / "speech.wav", voice(4, True))
    out = tmp_path / "film.mp4"
    common = ("--avatar", pack, "--idle", "0", "--emotion", "auto", "--person", "from-voice")
    done = render(speech, out, *common, "--frames", tmp_path / "auto")
    assert done.returncode == 0, done.stderr
    named = render(speech, tmp_path / "b.mp4", *common[:-1], avatar.people[1], "--frames", tmp_path / "named")
    assert named.returncode == 0, named.stderr
    last = sorted((tmp_path / "auto").glob("*.png"))[-1].name
    assert (tmp_path / "auto" / last).read_bytes() == (tmp_path / "named" / last).read_bytes()
    assert len(load_file(tmp_path / "auto" / "expression.safetensors")["expression"]) == 120


def test_a_film_refuses_what_it_cannot_hear(tiny_pack: Path, pack: Path, tmp_path: Path) -> None:
    speech = write_wav(tmp_path / "speech.wav", voice(1, True))
    done = render(speech, tmp_path / "a.mp4", "--avatar", tiny_pack, "--emotion", "auto")
    assert done.returncode != 0
    assert "no voice reader" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    quiet = write_wav(tmp_path / "quiet.wav", np.zeros(RATE, np.float32))
    done = render(quiet, tmp_path / "b.mp4", "--avatar", pack, "--person", "from-voice")
    assert done.returncode != 0
    assert "too little speech" in done.stderr
