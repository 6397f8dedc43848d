"""How a pack's mood follows a voice: judged on made-up courses, and heard by the engine's own listener."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import packs
import pytest
from syllables import voice

from engine.avatar import open_avatar
from engine.voice_mood import listening, load_reader
from export.moods import Case, cases_of, figures_of, judged, moods_of
from training.data.clip import CORPUS_FORMAT, ClipInfo, Truth, write_clip

ANGER, HAPPY, NEUTRAL = 0, 3, 4
RATE = 16_000


def case(before: int, after: int, sound: np.ndarray | None = None) -> Case:
    return Case("v", True, before, after, 2.0, np.zeros(0, np.float32) if sound is None else sound)


def course(after: list[tuple[int, float, float]]) -> np.ndarray:
    """Two seconds of anger, then six in which moods rise from 0 to a level: (mood, from second, level)."""
    moods = np.zeros((80, 6), np.float32)
    moods[:20, ANGER] = 0.5
    seconds = np.arange(60) / 10
    moods[20:, ANGER] = 0.5 * np.exp(-seconds)
    for mood, start, level in after:
        moods[20:, mood] = np.where(seconds >= start, level, 0)
    return moods


def test_a_mood_that_leads_after_a_second_took_a_second() -> None:
    found = judged(case(ANGER, HAPPY), course([(HAPPY, 1.0, 0.6)]))
    assert found.took_s == pytest.approx(1.0)
    assert found.gone_s == pytest.approx(1.0)
    assert found.led == 1.0


def test_a_mood_that_never_comes_was_not_followed() -> None:
    found = judged(case(ANGER, HAPPY), course([]))
    assert (found.took_s, found.led) == (None, 0.0)
    late = judged(case(ANGER, HAPPY), course([(HAPPY, 4.0, 0.6)]))
    assert late.took_s == pytest.approx(4.0)
    assert 0 < late.led < 1


def test_calm_is_the_absence_of_moods() -> None:
    found = judged(case(ANGER, NEUTRAL), course([]))
    assert found.took_s == pytest.approx(1.0, abs=0.11)  # 0.5 e^-t < 0.2
    other = judged(case(ANGER, NEUTRAL), course([(HAPPY, 0.0, 0.6)]))
    assert other.took_s is None


def test_figures_tell_real_from_synthetic() -> None:
    quick, never = judged(case(ANGER, HAPPY), course([(HAPPY, 0.5, 0.6)])), judged(case(ANGER, HAPPY), course([]))
    synthetic = Case("s", False, ANGER, HAPPY, 2.0, np.zeros(0, np.float32))
    figures = dict(figures_of([case(ANGER, HAPPY), case(ANGER, HAPPY), synthetic], [quick, never, never]))
    assert figures["all voices"]["changes"] == 3
    assert figures["real"]["new_mood_leads_within_2_s"] == 0.5
    assert figures["synthetic"]["new_mood_leads_within_2_s"] == 0.0


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packs.build_tiny_pack(tmp_path_factory.mktemp("packs") / "voice.avatar", size=128, voice_reader=True)


def test_the_engine_s_listener_is_what_is_measured(pack: Path) -> None:
    sound = np.concatenate([voice(2, False), voice(6, True)])
    avatar = open_avatar(pack)
    with listening(avatar, load_reader(avatar)) as ears:
        moods = moods_of(*ears, sound)
        np.testing.assert_array_equal(moods_of(*ears, sound), moods)  # nothing is left of the voice before
    found = judged(case(ANGER, HAPPY, sound), moods)
    assert found.took_s is not None
    assert 0 < found.took_s < 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of one voice, angry and happy, three seconds each, all of the test split."""
    root = tmp_path_factory.mktemp("corpus")
    (root / "corpus.json").write_text(json.dumps({"format": CORPUS_FORMAT}))
    integers = {"phone": np.int16}
    for k in range(4):
        bright = k % 2 == 1
        sound = np.concatenate([np.zeros(RATE // 5, np.float32), voice(3, bright)])
        info = ClipInfo(
            id=f"clip{k}", person="Ada", voice="made-up", sentence=f"s{k}", split="test", source="test",
            real_voice=False, frames=96, size=128, phones=[("sil", 0.0, 0.2), ("AA", 0.2, 3.2)],
            script=[(0.0, "happy" if bright else "anger", 1.0)],
        )  # fmt: skip
        truth = {n: np.zeros((96, *shape), integers.get(n, np.float32)) for n, shape in Truth.SHAPES.items()}
        write_clip(root, info, sound, Truth(**truth))
    return root


def test_cases_change_the_mood_of_one_voice(corpus: Path) -> None:
    cases = cases_of(corpus, "test", 3, 5.0)
    assert len(cases) == 3
    for one in cases:
        assert {one.before, one.after} == {ANGER, HAPPY}
        assert one.end_s - one.change_s == pytest.approx(3.0, abs=0.05)
        assert one.change_s > 5.0
    with pytest.raises(ValueError, match="split val"):
        cases_of(corpus, "val", 3, 5.0)


def test_the_command_prints_a_table_or_one_line(pack: Path, tiny_pack: Path, corpus: Path, tmp_path: Path) -> None:
    def run(which: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "export.moods", which, corpus, "--json-file", tmp_path / "f.json"]
        return subprocess.run([*map(str, command)], capture_output=True, encoding="utf-8", check=False)

    done = run(pack)
    assert done.returncode == 0, done.stderr
    assert "synthetic" in done.stdout
    assert json.loads((tmp_path / "f.json").read_text())["all voices"]["new_mood_leads_within_2_s"] == 1.0
    refused = run(tiny_pack)
    assert refused.returncode != 0
    assert "no voice reader" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
