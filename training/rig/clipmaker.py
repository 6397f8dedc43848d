"""One slot of the plan -> one finished clip: speech in its manner, silence around it, performance, landmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from training.data.clip import FPS, RATE, Clip, ClipInfo, Phone, Truth, write_clip
from training.rig.landmarks import LandmarkModel
from training.rig.moods import Script
from training.rig.performance import Performance, perform
from training.rig.plan import Slot
from training.rig.speech import Utterance, recorded, say, synthesise
from training.rig.voices import Manner, manner_of


def speak(slot: Slot) -> Utterance:
    """The slot's speech with silence before and after. Raises SpeechError or AlignmentError."""
    rng = np.random.default_rng([slot.seed, 2])
    raw = recorded(slot.recording) if slot.recording else synthesise(slot.voice, slot.text)
    _, emotion, intensity = max((s for s in slot.script if s[0] == slot.script[0][0]), key=lambda s: s[2])
    if slot.plain:
        manner = Manner(gain_db=float(rng.normal(0, 2.5)))
    else:
        manner = manner_of(emotion, intensity, rng)
    return _in_silence(say(raw, slot.voice, manner), rng)


def _in_silence(spoken: Utterance, rng: np.random.Generator) -> Utterance:
    """Adds 0.2-0.8 s on both sides, now and then some seconds of listening, and a faint room."""
    before, after = rng.uniform(0.2, 0.8, 2)
    if rng.random() < 0.12:
        after += rng.uniform(1.5, 3.5)
    if rng.random() < 0.06:
        before += rng.uniform(1.0, 2.5)
    lead, tail = int(before * RATE), int(after * RATE)
    audio = np.concatenate([np.zeros(lead), spoken.audio, np.zeros(tail)])
    if rng.random() < 0.7:
        room = lfilter([1], [1, -0.9], rng.standard_normal(len(audio)))
        audio += room / room.std() * 10 ** (rng.uniform(-82, -62) / 20)
    shift = lead / RATE
    phones: list[Phone] = [("sil", 0.0, shift)]
    for name, a, b in [*spoken.phones, ("sil", len(spoken.audio) / RATE, len(audio) / RATE - shift)]:
        if name == "sil" == phones[-1][0]:
            phones[-1] = ("sil", phones[-1][1], round(b + shift, 4))
        else:
            phones.append((name, round(a + shift, 4), round(b + shift, 4)))
    return Utterance(np.clip(audio, -1, 1).astype(np.float32), phones)


def settle(script: Script, frames: int) -> Script:
    """Leaves out what a script asks for after the clip's end."""
    return [entry for entry in script if entry[0] < frames / FPS - 0.3 or entry[0] == 0]


def truth_of(show: Performance, face: LandmarkModel, size: int) -> Truth:
    """The performance as the clip's truth, landmarks included."""
    return Truth(
        landmarks=face.project(show.expression, show.pose, show.shift, show.gaze, show.blink, size),
        pose=show.pose,
        shift=show.shift,
        gaze=show.gaze,
        blink=show.blink,
        expression=show.expression,
        emotion=show.emotion,
        intensity=show.intensity,
        phone=show.phone,
        aperture=face.aperture(show.expression),
    )


def make_clip(slot: Slot, face: LandmarkModel, corpus: Path, size: int) -> Clip:
    """Makes and writes the clip without pixels. Raises SpeechError, AlignmentError or ClipError."""
    utterance = speak(slot)
    # what is heard is written as 16 bits: perform to exactly that
    audio = (np.round(utterance.audio * 32767) / 32768).astype(np.float32)
    utterance = replace(utterance, audio=audio)
    script = settle(slot.script, len(audio) * FPS // RATE)
    show = perform(utterance.phones, utterance.audio, script, face, slot.seed)
    info = ClipInfo(
        id=slot.id,
        person=slot.person,
        voice=slot.voice.name,
        sentence=slot.sentence,
        text=slot.text,
        split=slot.split,
        source=f"rig: {slot.voice.engine} {slot.voice.model}",
        real_voice=slot.voice.real,
        frames=len(show.blink),
        size=size,
        phones=utterance.phones,
        seed=slot.seed,
        script=script,
    )
    return write_clip(corpus, info, utterance.audio, truth_of(show, face, size))
