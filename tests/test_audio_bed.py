"""Real PortAudio against a private sound server: speech arrives whole, the microphone may go and come, the monitor is
in step.

Needs pulseaudio, its ALSA plugin and PortAudio (see tests/beds/audio_bed.sh); skips with the reason where they are
missing.
"""

import os
import shutil
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from audio_bed_parts import BED_AT_FAULT, WHOLE, sound_of, windows_heard

BED = Path(__file__).parent / "beds" / "audio_bed.sh"
HERE = Path(__file__).parent
RATE = 16000

pytestmark = pytest.mark.device


def missing() -> str:
    """Why the bed cannot be used here, or an empty string."""
    if sys.platform != "linux":
        return "the audio bed is for Linux"
    for program in ("pulseaudio", "pactl", "paplay"):
        if not shutil.which(program):
            return f"{program} is not installed"
    if not any(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
        return "libasound2-plugins is not installed"
    try:
        from engine.audio.portaudio import sounddevice

        sounddevice()
    except Exception as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., "subprocess.CompletedProcess[str]"]]:
    if reason := missing():
        pytest.skip(reason)
    environment = {**os.environ, "AUDIO_BED": str(tmp_path_factory.mktemp("bed") / "pulse")}

    def command(*words: str, check: bool = True, **options: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([str(BED), *words], env=environment, text=True, check=check, timeout=120, **options)  # type: ignore[call-overload, no-any-return]

    command.environment = environment  # type: ignore[attr-defined]
    started = command("start", check=False, capture_output=True)
    if started.returncode:
        pytest.skip(f"the sound server does not start here: {started.stderr.strip()}")
    yield command
    command("stop")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Three seconds of syllables of noise and tone, 48 kHz: as broad as speech, and no two moments alike."""
    rng = np.random.default_rng(3)
    time_s = np.arange(3 * 48000) / 48000
    loud = np.clip(np.sin(2 * np.pi * (2.5 + 0.7 * np.sin(time_s)) * time_s), 0, 1) ** 0.5
    sound = 0.25 * loud * (np.convolve(rng.standard_normal(len(time_s)), np.ones(6) / 6, "same") + 0.3)
    path = tmp_path / "speech.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48000, len(time_s), "NONE", ""))
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype(np.int16).tobytes())
    return path


def run(bed: Callable[..., "subprocess.CompletedProcess[str]"], part: str, *words: str) -> str:
    """Runs one of the scripts in `audio_bed_parts.py` with the bed; its output.

    A loaded machine starves the sound server now and then, so a part has three tries, each in a fresh bed: what is wrong
    in the engine is wrong every time.
    """
    told = []
    for attempt in range(3):
        if attempt:
            bed("stop")
            bed("start")
        done = bed(
            "run", sys.executable, str(HERE / "audio_bed_parts.py"), part, *words, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=HERE.parent,
        )  # fmt: skip
        if done.returncode == 0:
            return "\n".join([*told, str(done.stdout)])
        told.append(f"try {attempt + 1} ended with {done.returncode}:\n{done.stdout}\n{done.stderr[-3000:]}")
    if done.returncode == BED_AT_FAULT:
        pytest.skip("the sound server cannot keep up on this machine: it lost most of what was played, three times")
    raise AssertionError(f"{part} failed three times\n" + "\n".join(told))


def test_the_comparison_tells_the_sound_from_others(speech: Path) -> None:
    """What the bed's parts call whole: the same sound with a piece cut out passes, other or spoilt sound does not."""
    truth = sound_of(str(speech))
    rng = np.random.default_rng(1)
    padded = np.concatenate([np.zeros(9000, np.float32), truth, np.zeros(4000, np.float32)])
    dropped = np.concatenate([padded[:25000], padded[27000:]])  # an eighth of a second is gone
    assert np.median(windows_heard(truth, padded + 1e-3 * rng.standard_normal(len(padded)))) > 0.99
    assert (windows_heard(truth, dropped) > WHOLE).mean() > 0.7
    faster = np.interp(np.arange(0, len(padded), 1.01), np.arange(len(padded)), padded)
    for wrong in (faster, padded[::-1], np.roll(truth, 1600) * -1, rng.standard_normal(len(padded))):
        assert (windows_heard(truth, wrong) > WHOLE).mean() < 0.3


def test_captured_speech_is_the_speech_that_was_played(bed: Callable[..., object], speech: Path) -> None:
    print(run(bed, "capture", str(speech)))  # type: ignore[arg-type]


def test_a_microphone_is_found_by_name_and_a_wrong_name_lists_what_there_is(bed: Callable[..., object]) -> None:
    print(run(bed, "names"))  # type: ignore[arg-type]


def test_unplugging_and_plugging_in_is_survived(bed: Callable[..., object], tiny_rgba_pack: Path, speech: Path) -> None:
    print(run(bed, "unplug", str(tiny_rgba_pack), str(speech)))  # type: ignore[arg-type]


def test_a_frozen_server_delivers_its_backlog_and_the_face_stays_prompt(
    bed: Callable[..., object], tiny_rgba_pack: Path, speech: Path
) -> None:
    print(run(bed, "freeze", str(tiny_rgba_pack), str(speech)))  # type: ignore[arg-type]


def test_the_monitor_plays_the_voice_as_late_as_asked(bed: Callable[..., object], speech: Path) -> None:
    print(run(bed, "monitor", str(speech)))  # type: ignore[arg-type]


def test_a_session_leaves_nothing_running(bed: Callable[..., object]) -> None:
    environment = bed.environment  # type: ignore[attr-defined]
    socket = f"unix:{environment['AUDIO_BED']}/native"
    listed = subprocess.run(
        ["pactl", "list", "short", "clients"],
        env={**environment, "PULSE_SERVER": socket},
        capture_output=True,
        text=True,
        timeout=20,
    )
    time.sleep(0)
    assert sum("python" in line for line in listed.stdout.splitlines()) == 0, listed.stdout
