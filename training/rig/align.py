"""Forced alignment: a recording and its transcript -> phones with times, by pocketsphinx and the model in its wheel.

Two passes, as pocketsphinx 5 wants it: words with optional silences first, then phones inside the words. The score
of the alignment tells a wrong transcript from a right one: over 1,100 sentences the right text scored above -20 a
frame, the text of another sentence below -37 or did not align at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path

import numpy as np

from training.data.clip import RATE, Phone, write_text_atomic

PAD_S = 0.25  # quiet noise on both sides, so that the aligner finds its silences
FRAME_S = 0.01
WORST_SCORE = -25.0  # mean log score a frame below which a transcript is refused
SEGMENT_TO_PHONE_SCORE = 8.8e-4  # found by matching both on right and wrong transcripts
VERSION = 4  # of this file's output: part of the cache's key

# flite's phones -> the 39 ARPAbet phones of the CMU dictionary
FLITE_TO_ARPABET = {"AX": "AH", "AXR": "ER", "DX": "T", "EL": "L", "EM": "M", "EN": "N", "PAU": "sil", "SSIL": "sil"}


class AlignmentError(Exception):
    """The recording cannot be aligned with its transcript; the message says why, on one line."""


@cache
def _decoder():
    from pocketsphinx import Decoder

    return Decoder(lm=None, loglevel="FATAL")


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mouthpiece" / "align"


def pronounce(word: str) -> str:
    """Phones of a word that the dictionary lacks: a possessive from its stem, anything else from flite's rules."""
    decoder = _decoder()
    stem = word[:-2] if word.endswith("'s") else ""
    known = decoder.lookup_word(stem) if stem else None
    if known:
        last = known.split()[-1]
        return known + (" IH Z" if last in ("S", "Z", "SH", "ZH", "CH", "JH") else " S" if last in "PTKF" else " Z")
    try:
        command = ["flite", "-voice", "slt", "-ps", "-t", word, "-o", "none"]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.upper().split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise AlignmentError(
            f"the word '{word}' is not in the dictionary, and flite is not there to spell it"
        ) from error
    phones = [FLITE_TO_ARPABET.get(p, p) for p in found]
    return " ".join(p for p in phones if p != "sil")


def words_of(text: str) -> list[str]:
    """Lower-case words of an English transcript; digits are refused, for nobody knows how they were read."""
    if re.search(r"\d", text):
        raise AlignmentError("the transcript holds digits; write numbers out in words")
    return re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower().replace("’", "'"))


def _search(pcm: np.ndarray) -> None:
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), full_utt=True)
    decoder.end_utt()


def _passes(pcm: np.ndarray, words: list[str]) -> list[tuple[str, int, int, float]]:
    """[(phone, first frame, frames, score)], empty when no path through the words fits the sound."""
    decoder = _decoder()
    for word in words:
        if decoder.lookup_word(word) is None:
            decoder.add_word(word, pronounce(word), True)
    decoder.set_align_text(" ".join(words))
    _search(pcm)
    if decoder.hyp() is None:
        return []
    spoken = [s.word for s in decoder.seg() if decoder.lookup_word(s.word) and s.word[0] != "<"]
    try:
        decoder.set_alignment()
        _search(pcm)
        return [(p.name, p.start, p.duration, p.score) for word in decoder.get_alignment() for p in word]
    except RuntimeError:  # a word shorter than three frames a phone: the second pass cannot enter it
        return _phone_by_phone(pcm, [p for word in spoken for p in decoder.lookup_word(word).split()])


def _phone_by_phone(pcm: np.ndarray, phones: list[str]) -> list[tuple[str, int, int, float]]:
    """The same from one pass in which every phone is a word of its own."""
    decoder = _decoder()
    for phone in set(phones):
        if decoder.lookup_word(f"_{phone.lower()}_") is None:
            decoder.add_word(f"_{phone.lower()}_", phone, True)
    decoder.set_align_text(" ".join(f"_{phone.lower()}_" for phone in phones))
    _search(pcm)
    if decoder.hyp() is None:
        return []
    found = []
    for s in decoder.seg():
        name = s.word.strip("_").split("_")[0].upper() if s.word[0] == "_" else "SIL"
        score = np.log(max(s.ascore, 1e-30)) / np.log(1.0001) * SEGMENT_TO_PHONE_SCORE
        found.append((name, s.start_frame, s.end_frame - s.start_frame + 1, float(score)))
    return found


def speech_span(audio: np.ndarray) -> tuple[float, float]:
    """Seconds at which the sound first and last rises above 3 % of its loud parts."""
    hop = int(RATE * FRAME_S)
    blocks = audio[: len(audio) // hop * hop].reshape(-1, hop)
    level = np.sqrt((blocks**2).mean(1))
    loud = np.flatnonzero(level > 0.03 * np.percentile(level, 95))
    return (loud[0] * FRAME_S, (loud[-1] + 1) * FRAME_S) if len(loud) else (0.0, len(audio) / RATE)


def align(audio: np.ndarray, text: str) -> tuple[list[Phone], float]:
    """Phones that cover the whole recording, and the mean score a frame.

    audio: [samples] float32, 16 kHz. Raises AlignmentError when the words cannot be in this recording.
    """
    words = words_of(text)
    if not words:
        raise AlignmentError("the transcript has no words")
    level = np.random.default_rng(0).standard_normal(int(PAD_S * RATE)) * 8
    pcm = np.concatenate([level, np.clip(audio, -1, 1) * 32767, level]).astype(np.int16)
    try:
        found = _passes(pcm, words)
    except RuntimeError as error:
        raise AlignmentError(f"pocketsphinx gave up ({error})") from error
    spoken = [f for f in found if f[0] != "SIL" and not f[0].startswith("+")]
    if not spoken:
        raise AlignmentError("the transcript does not match the recording: no path through the words")
    score = sum(f[3] for f in spoken) / sum(f[2] for f in spoken)
    if score < WORST_SCORE:
        raise AlignmentError(
            f"the transcript does not match the recording: score {score:.0f} a frame, expected above {WORST_SCORE:.0f}"
        )
    return _tidy(found, speech_span(audio), len(audio) / RATE), score


def _tidy(found: list, span: tuple[float, float], duration: float) -> list[Phone]:
    """Frames -> seconds without the padding; a first or last phone that swallowed the silence is cut back to it."""
    phones: list[Phone] = []
    for name, start, frames, _ in found:
        name = "sil" if name == "SIL" or name.startswith("+") else name
        a = min(max(start * FRAME_S - PAD_S, 0.0), duration)
        b = min(max((start + frames) * FRAME_S - PAD_S, 0.0), duration)
        if b > a:
            phones.append((name, a, b))
    if phones[0][0] != "sil" and span[0] - phones[0][1] > 0.08:
        name, a, b = phones[0]
        onset = min(span[0] - 0.05, b - 0.04)
        phones[:1] = [("sil", a, onset), (name, onset, b)]
    if phones[-1][0] != "sil" and phones[-1][2] - span[1] > 0.08:
        name, a, b = phones[-1]
        end = max(span[1] + 0.05, a + 0.04)
        phones[-1:] = [(name, a, end), ("sil", end, b)]
    return [(name, round(a, 3), round(b, 3)) for name, a, b in phones]


def align_cached(audio: np.ndarray, text: str) -> list[Phone]:
    """`align`, remembered by the digest of sound and text; a refusal is remembered too."""
    pcm = (np.clip(audio, -1, 1) * 32767).astype(np.int16)
    key = hashlib.sha256(pcm.tobytes() + text.encode() + bytes([VERSION])).hexdigest()[:32]
    path = cache_folder() / f"{key}.json"
    if path.exists():
        known = json.loads(path.read_text())
    else:
        try:
            known = {"phones": align(audio, text)[0]}
        except AlignmentError as error:
            known = {"error": str(error)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, json.dumps(known))
    if "error" in known:
        raise AlignmentError(known["error"])
    return [(name, a, b) for name, a, b in known["phones"]]
