"""What is heard of whole clips, clean and through bad microphones: a trained audio encoder's contexts, and the manner.

The encoder is not trained any further, so its contexts are computed once, every fourth one kept, and stored beside the
run as fp16, and so are the rows of manner. They belong to one encoder and one corpus; another encoder makes them anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor

from training.data.augment import SPEECH_LEVEL, no_speech, spoil
from training.data.clip import Clip, Corpus
from training.data.sound import utterance
from training.models.cpc import HOP_SAMPLES, RATE, AudioEncoder
from training.models.speech2video.manner import FEATURES, Manner

STRIDE = 4
ROWS = 2
"""Rows of manner to a context kept: 20 and 40 ms."""
HELD_COPIES = 1  # spoiled copies of clips that are never learned from


@dataclass(frozen=True)
class Voiced:
    """What is said about one clip. `voice_says` is the mood that its sound was given, empty where a recording was left
    as it is; `first` and `length` cut its contexts out of each copy's.
    """

    clip: str
    person: str
    voice: str
    real_voice: bool
    split: str
    voice_says: str
    strength: float
    speech: tuple[float, float]
    length: int


@dataclass(frozen=True)
class Sounds:
    """What is heard of one sound: `contexts [length, C]` fp16, one every 40 ms, and `rows [2 length, 18]` fp16."""

    contexts: NDArray[np.float16]
    rows: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.contexts)


@dataclass(frozen=True)
class Heard:
    """Clips and what is heard of them: `copies[i][k]` is copy k of clip i. Copy 0 is clean.

    `silence` are stretches in which nobody speaks.
    """

    clips: tuple[Voiced, ...]
    copies: tuple[tuple[Sounds, ...], ...]
    silence: tuple[Sounds, ...]
    known: dict[tuple[int, int], Any] = field(default_factory=dict, compare=False)
    """What training.data.usual has counted already."""

    @cached_property
    def by_voice(self) -> dict[str, list[int]]:
        """Indices of each voice's clips."""
        found: dict[str, list[int]] = {}
        for i, clip in enumerate(self.clips):
            found.setdefault(clip.voice, []).append(i)
        return found

    def of(self, *splits: str) -> list[int]:
        """Indices of the clips of some splits."""
        return [i for i, clip in enumerate(self.clips) if clip.split in splits]


def windows(rows: NDArray[np.float16], ends: Sequence[int], window: int, step: int = 1) -> NDArray[np.float32]:
    """`[len(ends), window, C]`: rows `step` apart that end with each of `ends`; before the stream they are zeros."""
    index = np.asarray(ends)[:, None] - step * np.arange(window - 1, -1, -1)[None]
    return rows[np.maximum(index, 0)].astype(np.float32) * (index >= 0)[..., None]


def digest_of(encoder: AudioEncoder) -> str:
    """Tells encoders apart: SHA-256 of their weights."""
    found = hashlib.sha256()
    for name, leaf in sorted(encoder.state_dict().items()):
        found.update(name.encode())
        found.update(leaf.detach().cpu().half().numpy().tobytes())
    return found.hexdigest()


def probe_sound() -> NDArray[np.float32]:
    """Half a second of a rising, trembling tone: what audio encoders are told apart by, wherever they run."""
    t = np.arange(RATE // 2) / RATE
    return (0.2 * np.sin(2 * np.pi * (120 + 900 * t) * t) * (1 + 0.5 * np.sin(2 * np.pi * 6 * t))).astype(np.float32)


@cache
def _manner() -> Manner:
    return Manner()


def hear_whole(encoder: AudioEncoder, samples: NDArray[np.float32]) -> tuple[Tensor, Sounds]:
    """`[n]` samples: every context `[n / 160, C]`, and what is kept of them beside the manner.

    What is left of the last 40 ms is not heard.
    """
    whole = len(samples) // (HOP_SAMPLES * STRIDE) * HOP_SAMPLES * STRIDE
    sound = torch.from_numpy(np.ascontiguousarray(samples[None, :whole]))
    with torch.no_grad():
        contexts, rows = encoder(sound)[0], _manner()(sound)[0]
    return contexts, Sounds(contexts[STRIDE - 1 :: STRIDE].half().numpy(), rows.half().numpy())


def hear(encoder: AudioEncoder, samples: NDArray[np.float32]) -> Sounds:
    """Every fourth context of `[n]` samples, and the manner."""
    return hear_whole(encoder, samples)[1]


def described(clip: Clip, length: int = 0) -> Voiced:
    """What is said about a clip; `length` is how many contexts it has."""
    info = clip.info
    start = info.script[0][0] if info.script else 0.0
    moods = [entry for entry in info.script if entry[0] == start]
    _, mood, strength = max(moods, key=lambda entry: entry[2]) if moods else (0.0, "neutral", 0.0)
    plain = info.real_voice and "-" not in info.voice  # a recording as it is was given no mood
    spoken = [(a, b) for name, a, b in info.phones if name != "sil"] or [(0.0, info.frames / info.fps)]
    says = "" if plain else mood
    return Voiced(
        info.id,
        info.person,
        info.voice,
        info.real_voice,
        info.split,
        says,
        strength,
        (spoken[0][0], spoken[-1][1]),
        length,
    )


def _copies(clip: Clip, encoder: AudioEncoder, count: int, seed: int) -> list[Sounds]:
    samples = clip.audio()
    sound = utterance(clip.info.id, samples)
    levelled = sound.cut(0, len(samples)) * np.float32(SPEECH_LEVEL / sound.loudness)
    rng = np.random.default_rng([seed, *clip.info.id.encode()])
    return [hear(encoder, samples), *(hear(encoder, spoil(levelled, rng, 0.1)) for _ in range(count))]


def hear_corpora(
    folders: Sequence[Path], encoder: AudioEncoder, store: Path, copies: int, seed: int, say: Callable[[str], None]
) -> Heard:
    """Contexts of all clips, from `store` (a name without suffix) if they are this encoder's, else computed and kept."""
    key = {"encoder": digest_of(encoder), "corpora": [f.name for f in folders], "copies": copies, "seed": seed}
    key |= {"manner": FEATURES}
    words = store.with_suffix(".json")
    if words.is_file() and (about := json.loads(words.read_text()))["key"] == key:
        return _load(store, about)
    clips: list[Voiced] = []
    heard: dict[str, list[Sounds]] = {f"copy_{k}": [] for k in range(copies + 1)}
    known = [clip for folder in folders for clip in Corpus(folder)]
    for number, clip in enumerate(known):
        found = _copies(clip, encoder, _wanted(clip.info.split, copies), seed)
        clips.append(described(clip, len(found[0])))
        for k, sounds in enumerate(found):
            heard[f"copy_{k}"].append(sounds)
        if number % 50 == 0:
            say(f"heard {number} of {len(known)} clips")
    rng = np.random.default_rng([seed, 99])
    heard["silence"] = [hear(encoder, no_speech(4 * RATE, rng)) for _ in range(80)]
    leaves = {}
    for name, sounds in heard.items():
        if sounds:
            leaves[name] = np.concatenate([one.contexts for one in sounds])
            leaves[f"{name}.rows"] = np.concatenate([one.rows for one in sounds])
    store.parent.mkdir(parents=True, exist_ok=True)
    part = store.with_suffix(".part")
    save_file(leaves, part)
    part.replace(store.with_suffix(".safetensors"))
    words.write_text(json.dumps({"key": key, "clips": [asdict(clip) for clip in clips]}) + "\n")
    return _load(store, json.loads(words.read_text()))


def _wanted(split: str, copies: int) -> int:
    return copies if split == "train" else min(copies, HELD_COPIES)


def _load(store: Path, about: dict) -> Heard:
    leaves = load_file(store.with_suffix(".safetensors"))
    clips = tuple(Voiced(**(clip | {"speech": tuple(clip["speech"])})) for clip in about["clips"])
    count = about["key"]["copies"]
    places = dict.fromkeys(range(count + 1), 0)

    def cut(name: str, first: int, length: int) -> Sounds:
        rows = leaves[f"{name}.rows"][ROWS * first : ROWS * (first + length)]
        return Sounds(leaves[name][first : first + length], rows)

    copies = []
    for clip in clips:
        mine = []
        for k in range(_wanted(clip.split, count) + 1):
            mine.append(cut(f"copy_{k}", places[k], clip.length))
            places[k] += clip.length
        copies.append(tuple(mine))
    length = len(leaves["silence"]) // 80
    return Heard(clips, tuple(copies), tuple(cut("silence", k * length, length) for k in range(80)))
