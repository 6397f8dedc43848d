"""Sound with phones: recordings aligned to their transcripts, and three synthetic voices with timings of their own."""

from __future__ import annotations

import csv
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import soxr

from training.data.clip import RATE, ClipError, Phone, read_audio
from training.rig.align import FLITE_TO_ARPABET, align_cached
from training.rig.voices import Manner, Voice, change

IPA_TO_ARPABET = {
    "ɑː": "AA", "ɑ": "AA", "a": "AE", "aː": "AA", "æ": "AE", "ʌ": "AH", "ɐ": "AH", "ə": "AH", "ɚ": "ER", "ɜː": "ER",
    "ɜ": "ER", "ɔː": "AO", "ɔ": "AO", "ɒ": "AA", "oː": "AO", "aʊ": "AW", "aɪ": "AY", "eɪ": "EY", "oʊ": "OW",
    "əʊ": "OW", "ɔɪ": "OY", "ɛ": "EH", "e": "EH", "ɛː": "EH", "eː": "EY", "ɪ": "IH", "i": "IY", "iː": "IY", "ᵻ": "IH",
    "ʊ": "UH", "u": "UW", "uː": "UW", "b": "B", "p": "P", "m": "M", "f": "F", "v": "V", "θ": "TH", "ð": "DH", "l": "L",
    "ɫ": "L", "n": "N", "t": "T", "d": "D", "ɾ": "T", "s": "S", "z": "Z", "ʃ": "SH", "ʒ": "ZH", "tʃ": "CH",
    "dʒ": "JH", "ɹ": "R", "r": "R", "w": "W", "ʍ": "W", "j": "Y", "k": "K", "ɡ": "G", "ŋ": "NG", "h": "HH", "ʔ": "T",
    "x": "K", "n̩": "N", "əl": "L", "iə": "IY", "ʊə": "UH", "eə": "EH", "aɪɚ": "AY", "aɪə": "AY", "ɪɹ": "IY",
}  # fmt: skip
STOPS = ("P", "B", "T", "D", "K", "G", "CH", "JH")


class SpeechError(Exception):
    """No speech could be had; the message says which voice or file, why, and what to do."""


@dataclass(frozen=True)
class Utterance:
    """audio [samples] float32 16 kHz; phones cover it from start to end, ARPAbet names and "sil"."""

    audio: np.ndarray
    phones: list[Phone]


@dataclass(frozen=True)
class Recording:
    """One line of a folder's transcripts.tsv; `path` is its sound file."""

    id: str
    text: str
    path: Path


def recordings(folder: Path) -> list[Recording]:
    """Reads a folder's `transcripts.tsv` (id, text). Raises SpeechError when it is no folder of recordings."""
    table = folder / "transcripts.tsv"
    try:
        with table.open(encoding="utf-8") as lines:
            rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise SpeechError(
            f"{folder}: expected a folder of recordings with transcripts.tsv (id, tab, text); name the folder that "
            f"holds the voices with --speech or MOUTHPIECE_SPEECH, or go on with synthetic voices alone (--speech none)"
        ) from error
    found = []
    for number, row in enumerate(rows, 1):
        if len(row) != 2:
            raise SpeechError(f"{table}: line {number}: expected id, tab, text; found {len(row)} columns")
        paths = [p for p in (folder / f"{row[0]}{ext}" for ext in (".opus", ".flac", ".wav", ".ogg")) if p.exists()]
        if not paths:
            raise SpeechError(f"{table}: line {number}: no sound file for '{row[0]}' beside it")
        found.append(Recording(row[0], row[1].strip(), paths[0]))
    return found


def recorded(recording: Recording) -> Utterance:
    """A recording with its phones. Raises SpeechError (unreadable) or AlignmentError (transcript does not match)."""
    try:
        audio = read_audio(recording.path)
    except ClipError as error:
        raise SpeechError(str(error)) from error
    return Utterance(audio, align_cached(audio, recording.text))


@cache
def available(engine: str, model: str) -> bool:
    """Whether this machine has the synthetic voice."""
    if engine == "flite":
        return shutil.which("flite") is not None
    if engine == "festival":
        return shutil.which("festival") is not None and any(Path("/usr/share/festival/voices").glob(f"*/{model}"))
    return engine == "espeak" and _espeak_library() is not None


def synthesise(voice: Voice, text: str) -> Utterance:
    """Speaks `text`. Raises SpeechError when the engine is missing or fails."""
    if not available(voice.engine, voice.model):
        raise SpeechError(f"voice {voice.name}: {voice.engine} with {voice.model} is not installed")
    try:
        audio, phones = {"flite": _flite, "espeak": _espeak, "festival": _festival}[voice.engine](voice.model, text)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SpeechError(f"voice {voice.name} failed on '{text}': {error}") from error
    peak = np.abs(audio).max(initial=0)
    if peak < 1e-3:
        raise SpeechError(f"voice {voice.name} gave silence for '{text}'")
    return Utterance((audio * (0.5 / peak)).astype(np.float32), _whole(phones, len(audio) / RATE))


def say(utterance: Utterance, voice: Voice, manner: Manner) -> Utterance:
    """The utterance in the voice's throat and the given manner (gain included), phone times along with it."""
    audio, grown = change(utterance.audio, voice, manner)
    phones = [(name, round(a * grown, 4), round(b * grown, 4)) for name, a, b in utterance.phones]
    loud = np.sqrt(np.mean(audio**2)) + 1e-6
    target = 0.07 * 10 ** (manner.gain_db / 20)
    audio = audio * np.float32(min(target / loud, 0.95 / (np.abs(audio).max() + 1e-6)))
    return replace(utterance, audio=audio, phones=phones)


def _whole(phones: list[Phone], duration: float) -> list[Phone]:
    """Joins neighbouring silences, drops empty phones, and covers the sound from 0 to its end."""
    out: list[Phone] = []
    for name, a, b in phones:
        a, b = min(a, duration), min(b, duration)
        if b - a < 1e-3:
            continue
        if out and name == "sil" == out[-1][0]:
            out[-1] = ("sil", out[-1][1], b)
        else:
            out.append((name, a, b))
    if out and out[0][1] > 0:
        out[:0] = [("sil", 0.0, out[0][1])]
    if out and out[-1][2] < duration:
        out.append(("sil", out[-1][2], duration))
    return out


def _load_wave(path: str) -> np.ndarray:
    return read_audio(Path(path))


def _arpabet(name: str) -> str:
    upper = name.upper()
    return FLITE_TO_ARPABET.get(upper, upper)


def _flite(model: str, text: str) -> tuple[np.ndarray, list[Phone]]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "speech.wav")
        command = ["flite", "-voice", model, "-t", text, "-psdur", "-o", path]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        audio = _load_wave(path)
    phones, start = [], 0.0
    for name, end in re.findall(r"(\S+):([\d.]+)", output):  # "phone:end time"
        phones.append((_arpabet(name), start, float(end)))
        start = float(end)
    return audio, phones


def _festival(model: str, text: str) -> tuple[np.ndarray, list[Phone]]:
    spoken = text.replace("\\", " ").replace('"', "'")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "say.scm")
        script.write_text(
            f'(voice_{model})\n(set! u (utt.synth (Utterance Text "{spoken}")))\n'
            f'(utt.save.segs u "{folder}/s")\n(utt.save.wave u "{folder}/w.wav" \'riff)\n'
        )
        subprocess.run(["festival", "-b", str(script)], capture_output=True, check=True, timeout=60)
        audio = _load_wave(f"{folder}/w.wav")
        rows = [line.split() for line in Path(folder, "s").read_text().splitlines() if line[:1].isdigit()]
    phones, start = [], 0.0
    for end, _, name in (row[:3] for row in rows):
        phones.append((_arpabet(name), start, float(end)))
        start = float(end)
    return audio, phones


@cache
def _espeak_library() -> str | None:
    """Name of espeak-ng's library if this machine has it."""
    try:
        ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        return None
    return "libespeak-ng.so.1"


def _espeak(model: str, text: str) -> tuple[np.ndarray, list[Phone]]:
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("espeak.py")), model, text]
    done = subprocess.run(command, capture_output=True, timeout=60)
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace").strip())
    head, _, samples = done.stdout.partition(b"\n")
    about = json.loads(head)
    native_rate, events = about["rate"], about["events"]
    audio = np.frombuffer(samples, np.int16).astype(np.float32) / 32768
    if not len(audio) or not events:
        raise ValueError("espeak-ng gave no sound")
    duration = len(audio) / native_rate
    ends = [t for t, _ in events[1:]] + [duration]
    phones = [(_from_ipa(name), start, end) for (start, name), end in zip(events, ends)]
    audio = soxr.resample(audio, native_rate, RATE).astype(np.float32)
    return audio, _with_closures(audio, _whole(phones, duration))


def _from_ipa(name: str) -> str:
    """espeak-ng's IPA -> ARPAbet; what it has beyond English comes down to the nearest by its first sign."""
    bare = re.sub("[ˈˌ_ˑ̩]", "", name).strip()
    if not bare:
        return "sil"
    return IPA_TO_ARPABET.get(bare) or IPA_TO_ARPABET.get(bare[:2]) or IPA_TO_ARPABET.get(bare[0]) or "AH"


def _with_closures(audio: np.ndarray, phones: list[Phone]) -> list[Phone]:
    """espeak-ng marks a stop at its burst: its start is moved back to where the sound before it died."""
    level = np.sqrt(np.convolve(audio**2, np.ones(96) / 96, "same") + 1e-12)
    out = list(phones)
    for k in range(1, len(out)):
        name, start, end = out[k]
        before, a, b = out[k - 1]
        if name not in STOPS or before == "sil" or b != start:
            continue
        earliest = max(a + 0.5 * (b - a), b - 0.09)
        stretch = level[int(earliest * RATE) : int(b * RATE)]
        loud = np.flatnonzero(stretch > 0.2 * level[int(a * RATE) : int(b * RATE)].max(initial=1e-6))
        closure = earliest + (loud[-1] + 1) / RATE if len(loud) else earliest
        out[k - 1], out[k] = (before, a, closure), (name, closure, end)
    return out
