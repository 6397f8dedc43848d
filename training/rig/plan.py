"""Who says what, in which voice and mood: an endless, seeded list of clips, of which a corpus is the beginning."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from training.data.clip import EMOTIONS, Split
from training.rig.align import AlignmentError
from training.rig.moods import Script, draw_script
from training.rig.person import Person
from training.rig.sentences import sentence, sentence_id
from training.rig.speech import Recording, SpeechError, available, recorded, recordings
from training.rig.voices import (
    HELD_VOICE,
    SYNTHETIC,
    Voice,
    as_recorded,
    fitting,
    in_throat,
    recorded_who,
    throat_scale,
    track_pitch,
)

REAL_SHARE = 0.64  # of the clips: safely over half of the minutes
HELD_VOICE_SHARE = 0.05
PLAIN_SHARE = 0.35  # of a woman's (or man's) recorded clips: the recording untouched
CHILD_SHARE = 0.10  # of the recorded clips of young people: a child's throat, for the ears' sake
TEST_PREFIX = "arctic_b05"  # these sentences are in the test split always
SPLIT_RULE = (
    f"ids {TEST_PREFIX}*: test; else SHA-256 of the sentence id modulo 100: 0-5 test, 6-11 val, rest train; "
    f"voice {HELD_VOICE}: held_voice; the last people of the cast: held_person"
)


@dataclass(frozen=True)
class Folder:
    """A folder of aligned recordings; median_hz is the speaker's pitch."""

    name: str
    recordings: list[Recording]
    median_hz: float

    @property
    def who(self) -> str:
        return recorded_who(self.median_hz)


@dataclass(frozen=True)
class Slot:
    """One clip to make. `recording` is None for a synthetic voice; `plain`: the recording stays as it is."""

    number: int
    person: str
    voice: Voice
    sentence: str
    text: str
    recording: Recording | None
    plain: bool
    script: Script
    split: Split
    seed: int

    @property
    def id(self) -> str:
        return f"{self.number:05d}_{self.person.lower()}_{self.voice.name}_{self.sentence}"


def split_of(sentence: str) -> Split:
    """The sentence's split, the same in every corpus."""
    if sentence.startswith(TEST_PREFIX):
        return "test"
    bucket = int(hashlib.sha256(sentence.encode()).hexdigest(), 16) % 100
    return "test" if bucket < 6 else "val" if bucket < 12 else "train"


def held_people(people: list[Person]) -> set[str]:
    """Names of the people who appear in no training clip: the last twelfth of the cast, none of a small one."""
    count = len(people) // 12
    return {p.name for p in people[len(people) - count :]} if count else set()


def open_folders(root: Path | None) -> tuple[list[Folder], list[Path]]:
    """(folders whose transcripts align with the English model, sound files of the others for use without text).

    Raises SpeechError when `root` is named but holds no recordings.
    """
    if root is None:
        return [], []
    if not root.is_dir():
        raise SpeechError(f"{root}: no such folder; expected recordings in folders with transcripts.tsv (--speech)")
    folders, unlabelled = [], []
    for path in sorted(p for p in root.iterdir() if p.is_dir()):
        try:
            found = recordings(path)
        except SpeechError:
            unlabelled += sorted(p for p in path.rglob("*") if p.suffix in (".opus", ".flac", ".wav", ".ogg"))
            continue
        pitches = [hz for hz in map(_probe, found[:: max(1, len(found) // 8)][:8]) if hz]
        if len(pitches) >= max(1, min(4, len(found) // 2)):
            folders.append(Folder(path.name, found, float(np.median(pitches))))
        else:
            unlabelled += [r.path for r in found]
    if not folders and not unlabelled:
        raise SpeechError(f"{root}: holds no recordings; expected folders with sound files and transcripts.tsv")
    return folders, unlabelled


def _probe(recording: Recording) -> float | None:
    """The recording's median pitch, or None when its transcript does not align."""
    try:
        f0 = track_pitch(recorded(recording).audio)
    except (AlignmentError, SpeechError):
        return None
    return float(np.median(f0[f0 > 0])) if (f0 > 0).any() else None


def _who(person: Person) -> str:
    return "woman" if person.sex == "female" else "man"


class _Deck:
    """Deals every item once in a seeded order before any comes again."""

    def __init__(self, items: list, seed: list[int]):
        self.items, self.seed, self.dealt = items, seed, 0
        self.order: np.ndarray = np.arange(0)

    def deal(self):
        at = self.dealt % len(self.items)
        if at == 0:
            self.order = np.random.default_rng([*self.seed, self.dealt]).permutation(len(self.items))
        self.dealt += 1
        return self.items[self.order[at]]


def slots(people: list[Person], folders: list[Folder], seed: int, own_voices: bool = False) -> Iterator[Slot]:
    """Clips without end; the same people, folders and seed give the same clips.

    own_voices: nobody shares a voice (`own_voices_of`), as S_id needs it; else all of a sex share the synthetic ones, so
    that a talker hears many voices with every face.
    """
    held = held_people(people)
    synthetic = [v for v in SYNTHETIC.values() if v.name != HELD_VOICE and available(v.engine, v.model)]
    held_voice = SYNTHETIC[HELD_VOICE] if available("flite", "awb") else None
    if not synthetic and not folders:
        raise SpeechError("no speech at all: name recordings with --speech, or install flite, espeak-ng or festival")
    rng = np.random.default_rng([seed, 5])
    takes = _Deck([(f, r) for f in folders for r in f.recordings], [seed, 6]) if folders else None
    decks = {who: _Deck([v for v in synthetic if v.who == who], [seed, 7, k]) for k, who in enumerate(("woman", "man"))}
    children = [v for v in synthetic if v.who == "child"]
    casting = _Deck(people, [seed, 8])
    moods = {p.name: _Deck(list(EMOTIONS), [seed, 9, p.seed]) for p in people}
    owned = own_voices_of(people, folders, synthetic, seed) if own_voices else {}
    own = 0
    for number in range(10**6):
        person = casting.deal()
        emotion = moods[person.name].deal()
        use_real = takes is not None and (rng.random() < REAL_SHARE or not synthetic)
        recording, plain = None, False
        if use_real:
            folder, recording = takes.deal()
            voice, plain = _recorded_voice(folder, person, rng)
            if own_voices:
                voice, plain = owned[person.name].recorded[folder.name], False
            name, text = recording.id, recording.text
        else:
            voice = _synthetic_voice(person, decks, children, held_voice, rng)
            if own_voices and voice.name != HELD_VOICE:
                voice = owned[person.name].synthetic
            name, text = sentence_id(own), sentence(own)
            own += 1
        if plain and rng.random() < 0.5:
            emotion = "neutral"
        clip_seed = int(np.random.default_rng([seed, 10, number]).integers(2**31))
        script = draw_script(np.random.default_rng([clip_seed, 1]), len(text) * 0.07, emotion)
        if plain:  # the voice says nothing of a mood, so the face shows less of one
            script = [(at, mood, round(0.6 * strength, 2)) for at, mood, strength in script]
        split: Split = "held_person" if person.name in held else split_of(name)
        if voice.name == HELD_VOICE:
            split = "held_voice"
        if name.startswith(TEST_PREFIX):
            split = "test"
        yield Slot(number, person.name, voice, name, text, recording, plain, script, split, clip_seed)


@dataclass(frozen=True)
class Owned:
    """The voices of one person: one for each folder of recordings, by the folder's name, and one synthetic if
    there are any."""

    recorded: dict[str, Voice]
    synthetic: Voice | None


def own_voices_of(people: list[Person], folders: list[Folder], synthetic: list[Voice], seed: int) -> dict[str, Owned]:
    """A throat for everybody: sizes are spread evenly over what women's and men's measure, and dealt at random.

    Both voices of a person have that size and the person's pitch, as one throat would give them.
    """
    rng = np.random.default_rng([seed, 12])
    owned: dict[str, Owned] = {}
    for who, low, high, usual_hz in (("woman", 0.93, 1.10, 200.0), ("man", 0.78, 0.93, 115.0)):
        mine = [p for p in people if _who(p) == who]
        voices = _Deck([v for v in synthetic if v.who == who] or synthetic, [seed, 13, len(who)]) if synthetic else None
        for person, share in zip(mine, (rng.permutation(len(mine)) + 0.5) / max(len(mine), 1)):
            size, hz = low + float(share) * (high - low), person.voice.pitch_hz
            recorded = {
                f.name: in_throat(f.name, f.median_hz, person.name, who, size * throat_scale(f.median_hz), hz)
                for f in folders
            }
            fitted = None
            if voices:
                base: Voice = voices.deal()
                fitted = replace(
                    base, name=f"{base.name}-{person.name.lower()}", formant=base.formant * size / ((low + high) / 2),
                    pitch=base.pitch * float(np.clip(hz / usual_hz, 0.8, 1.25)),
                )  # fmt: skip
            owned[person.name] = Owned(recorded, fitted)
    return owned


def _recorded_voice(folder: Folder, person: Person, rng: np.random.Generator) -> tuple[Voice, bool]:
    who = _who(person)
    if who == folder.who and rng.random() < PLAIN_SHARE:
        return as_recorded(folder.name, who), True
    if person.age < 32 and rng.random() < CHILD_SHARE * 2:
        return fitting(folder.name, folder.median_hz, person.name, "child", 270.0, person.seed), False
    return fitting(folder.name, folder.median_hz, person.name, who, person.voice.pitch_hz, person.seed), False


def _synthetic_voice(person: Person, decks: dict, children: list[Voice], held: Voice | None, rng) -> Voice:
    who = _who(person)
    if who == "man" and held and rng.random() < HELD_VOICE_SHARE * 2 / (1 - REAL_SHARE):
        return held
    if children and who == "woman" and rng.random() < 0.06:
        return children[rng.integers(len(children))]
    deck = decks[who] if decks[who].items else next(d for d in decks.values() if d.items)
    voice = deck.deal()
    return replace(voice, pitch=voice.pitch * float(np.exp(rng.normal(0, 0.04))))
