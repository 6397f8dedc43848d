"""How a pack's mood follows a voice that changes it: heard by the engine's own listener, in stream time.

    python -m export.moods cast.avatar corpora/voices_own

Every case is one voice: half a minute of its sentences in any mood, then a sentence in one mood, then one in another, each
cut to what is spoken with a breath of 0.2 s between. Measured is the mood that the face is given, smoothing and all, from
the first sound of the last sentence on. Sentences are of one split; the reader has learned from none of `test`.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from engine.avatar import open_avatar
from engine.encoder import AudioEncoder
from engine.errors import MouthpieceError
from engine.manifest import EMOTIONS, HOP_SAMPLES, RATE
from engine.voice_mood import EVERY_HOPS, VoiceListener, listening, load_reader

if TYPE_CHECKING:
    from training.data.clip import Clip

Array = NDArray[np.float32]
BREATH_S = 0.2
LEAST_S = 2.5
NEUTRAL = EMOTIONS.index("neutral")
CALM = 0.2
"""A face is calm while no mood is stronger."""


@dataclass(frozen=True)
class Case:
    """A voice that changes from mood `before` to mood `after` at `change_s`; both index EMOTIONS."""

    voice: str
    real: bool
    before: int
    after: int
    change_s: float
    sound: Array

    @property
    def end_s(self) -> float:
        return len(self.sound) / RATE


@dataclass(frozen=True)
class Followed:
    """`took_s`: until the new mood led for half a second on end, None if it never did; `gone_s`: until the old one was weaker
    than it, likewise; `led`: the new one's share of the time after two seconds."""

    took_s: float | None
    gone_s: float | None
    led: float


def cases_of(
    corpus: Path, split: str, per_voice: int, known_s: float, least_strength: float = 0.0, seed: int = 0
) -> list[Case]:
    """Cases of all voices that said enough in two moods at least. Raises `ValueError` if there are none."""
    from training.data.clip import Corpus
    from training.data.heard import described

    voices: dict[str, list[tuple[int, bool, Callable[[], Array], bool]]] = {}
    for clip in Corpus(corpus):
        about = described(clip)
        first, last = (int(t * RATE) for t in about.speech)
        if about.voice_says:
            mood = EMOTIONS.index(about.voice_says)
            clear = about.strength >= least_strength or mood == NEUTRAL
            fits = about.split == split and clear and last - first > LEAST_S * RATE
            # read when it is needed: a corpus is hours long
            spoken = partial(_cut, clip, first, last)
            voices.setdefault(about.voice, []).append((mood, about.real_voice, spoken, fits))
    cases = []
    breath = np.zeros(int(BREATH_S * RATE), np.float32)
    for voice, said in sorted(voices.items()):
        rng = np.random.default_rng([seed, *voice.encode()])
        asked = [k for k, one in enumerate(said) if one[3]]
        pairs = [(a, b) for a in asked for b in asked if said[a][0] != said[b][0]]
        for a, b in [pairs[k] for k in rng.permutation(len(pairs))[:per_voice]]:
            parts: list[Array] = []
            for k in rng.permutation(len(said)):
                if k not in (a, b) and sum(map(len, parts)) < known_s * RATE:
                    parts += [said[k][2](), breath]
            parts += [said[a][2](), breath]
            change = sum(map(len, parts)) / RATE
            parts += [said[b][2]()]
            sound = np.concatenate(parts)
            cases.append(Case(voice, said[a][1], said[a][0], said[b][0], change, sound))
    if not cases:
        raise ValueError(f"{corpus}: no voice has two sentences of over 2.5 s in different moods in the split {split}")
    return cases


def _cut(clip: "Clip", first: int, last: int) -> Array:
    samples: Array = clip.audio()[first:last]
    return samples


def moods_of(encoder: AudioEncoder, listener: VoiceListener, sound: Array) -> Array:
    """What the face is given every 100 ms, `[n, 6]`, of a voice never heard before."""
    encoder.reset()
    listener.reset()
    step = EVERY_HOPS * HOP_SAMPLES
    found = []
    for at in range(0, len(sound) - step, step):
        encoder.push(sound[at : at + step])
        listener.follow()
        found.append(listener.mood(encoder.hops - 1).copy())
    return np.stack(found)


def judged(case: Case, moods: Array) -> Followed:
    """When the new mood had taken over, and the old one had gone, in seconds after the change."""
    first = int(case.change_s * 10)
    after = moods[first:]
    strongest = np.where(after.max(1) < CALM, NEUTRAL, after.argmax(1)) if case.after == NEUTRAL else after.argmax(1)
    leads = (strongest == case.after) & ((after.max(1) > 0.05) | (case.after == NEUTRAL))
    old = after[:, case.before] if case.before != NEUTRAL else np.zeros(len(after))
    gone = old < np.maximum(after[:, case.after], CALM / 2)
    late = leads[20:] if len(leads) > 20 else leads[-1:]
    return Followed(_since(leads), _since(gone), float(late.mean()))


def _since(true: NDArray[np.bool_]) -> float | None:
    """Seconds until it came true for the first time for half a second on end."""
    for k in range(len(true) - 4):
        if true[k : k + 5].all():
            return k / 10
    return None


def figures_of(cases: list[Case], found: list[Followed]) -> Iterator[tuple[str, dict[str, float]]]:
    """By kind of voice: the share of changes followed within two seconds, and the median time."""
    for name, picked in (
        ("all voices", [True] * len(cases)),
        ("real", [c.real for c in cases]),
        ("synthetic", [not c.real for c in cases]),
    ):
        mine = [f for f, yes in zip(found, picked) if yes]
        if not mine:
            continue
        took = [f.took_s for f in mine if f.took_s is not None]
        yield (
            name,
            {
                "changes": len(mine),
                "new_mood_leads_within_2_s": sum(t <= 2.0 for t in took) / len(mine),
                "median_s_where_it_leads": float(np.median(took)) if took else float("nan"),
                "old_mood_gone_within_2_s": sum(f.gone_s is not None and f.gone_s <= 2.0 for f in mine) / len(mine),
                "leads_after_2_s": float(np.mean([f.led for f in mine])),
            },
        )


def main(
    pack: tyro.conf.Positional[Path],
    corpus: tyro.conf.Positional[Path],
    /,
    *,
    split: str = "test",
    per_voice: int = 2,
    known_s: float = 30.0,
    least_strength: float = 0.0,
    json_file: Path | None = None,
) -> None:
    """Measures how a pack's mood follows voices that change it.

    Args:
        pack: An avatar pack with a voice reader.
        corpus: A talking corpus of training.rig.corpus.
        split: The split whose sentences change the mood.
        per_voice: Changes tried with each voice.
        known_s: Seconds of the voice, in any mood, before the two sentences.
        least_strength: Only sentences whose mood was given at least this much, 0.45 to 1.
        json_file: Where to write the figures too.
    """
    try:
        avatar = open_avatar(pack)
        reader = load_reader(avatar)
        if reader is None:
            raise ValueError(f"{avatar.name} has no voice reader; add one: python -m export.reader")
        cases = cases_of(corpus, split, per_voice, known_s, least_strength)
        with listening(avatar, reader) as ears:
            found = [judged(case, moods_of(*ears, case.sound)) for case in track(cases, "changes")]
    except (ValueError, OSError, MouthpieceError) as error:
        sys.exit(f"error: {error}")
    figures = dict(figures_of(cases, found))
    shown = Table("", *(name.replace("_", " ") for name in next(iter(figures.values()))))
    for name, row in figures.items():
        shown.add_row(name, *(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(shown)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
