"""Contexts of whole clips: what a trained audio encoder makes of a corpus, heard clean and through bad microphones.

The encoder is not trained any further, so its contexts are computed once, every fourth one kept, and stored beside the
run as fp16. They belong to one encoder and one corpus; another encoder makes them anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from training.data.augment import SPEECH_LEVEL, no_speech, spoil
from training.data.clip import Clip, Corpus
from training.data.sound import utterance
from training.models.cpc import HOP_SAMPLES, RATE, AudioEncoder

STRIDE = 4
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
class Heard:
    """Clips and their contexts: `contexts[i][k]` is copy k of clip i, `[length, C]` fp16, one row every 40 ms.

    Copy 0 is clean. `silence` are stretches in which nobody speaks.
    """

    clips: tuple[Voiced, ...]
    contexts: tuple[tuple[NDArray[np.float16], ...], ...]
    silence: tuple[NDArray[np.float16], ...]
    means: dict[tuple[int, int], tuple[NDArray[np.float32], float]] = field(default_factory=dict, compare=False)

    def of(self, *splits: str) -> list[int]:
        """Indices of the clips of some splits."""
        return [i for i, clip in enumerate(self.clips) if clip.split in splits]


def windows(
    contexts: NDArray[np.float16], ends: Sequence[int], window: int, stride: int = STRIDE
) -> NDArray[np.float32]:
    """`[len(ends), window, C]`: rows `stride` hops apart that end with each of `ends`; before the stream they are zeros."""
    step = stride // STRIDE
    index = np.asarray(ends)[:, None] - step * np.arange(window - 1, -1, -1)[None]
    rows = contexts[np.maximum(index, 0)].astype(np.float32)
    return rows * (index >= 0)[..., None]


def spoken_mean(heard: Heard, index: int, copy: int = 0) -> tuple[NDArray[np.float32], float]:
    """The mean context `[C]` of what is said in a clip, and for how many seconds."""
    if (index, copy) in heard.means:
        return heard.means[index, copy]
    clip = heard.clips[index]
    first, last = int(clip.speech[0] * 25), max(int(clip.speech[1] * 25), int(clip.speech[0] * 25) + 1)
    rows = heard.contexts[index][copy][first:last].astype(np.float32)
    heard.means[index, copy] = rows.mean(0), len(rows) / 25
    return heard.means[index, copy]


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


def hear(encoder: AudioEncoder, samples: NDArray[np.float32]) -> NDArray[np.float16]:
    """`[n] -> [n / 640, C]`: every fourth context."""
    whole = len(samples) // (HOP_SAMPLES * STRIDE) * HOP_SAMPLES * STRIDE
    with torch.no_grad():
        contexts = encoder(torch.from_numpy(np.ascontiguousarray(samples[None, :whole])))[0]
    return contexts[STRIDE - 1 :: STRIDE].half().numpy()


def _describe(clip: Clip, length: int) -> Voiced:
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


def _copies(clip: Clip, encoder: AudioEncoder, count: int, seed: int) -> list[NDArray[np.float16]]:
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
    words = store.with_suffix(".json")
    if words.is_file() and (about := json.loads(words.read_text()))["key"] == key:
        return _load(store, about)
    clips: list[Voiced] = []
    leaves: dict[str, list[NDArray[np.float16]]] = {f"copy_{k}": [] for k in range(copies + 1)}
    known = [clip for folder in folders for clip in Corpus(folder)]
    for number, clip in enumerate(known):
        wanted = copies if clip.info.split == "train" else min(copies, HELD_COPIES)
        heard = _copies(clip, encoder, wanted, seed)
        clips.append(_describe(clip, len(heard[0])))
        for k, contexts in enumerate(heard):
            leaves[f"copy_{k}"].append(contexts)
        if number % 50 == 0:
            say(f"heard {number} of {len(known)} clips")
    rng = np.random.default_rng([seed, 99])
    silence = [hear(encoder, no_speech(4 * RATE, rng)) for _ in range(80)]
    store.parent.mkdir(parents=True, exist_ok=True)
    part = store.with_suffix(".part")
    save_file({name: np.concatenate(rows) for name, rows in (leaves | {"silence": silence}).items() if rows}, part)
    part.replace(store.with_suffix(".safetensors"))
    words.write_text(json.dumps({"key": key, "clips": [asdict(clip) for clip in clips]}) + "\n")
    return _load(store, json.loads(words.read_text()))


def _load(store: Path, about: dict) -> Heard:
    leaves = load_file(store.with_suffix(".safetensors"))
    clips = tuple(Voiced(**(clip | {"speech": tuple(clip["speech"])})) for clip in about["clips"])
    copies = about["key"]["copies"]
    places = dict.fromkeys(range(copies + 1), 0)
    contexts = []
    for clip in clips:
        mine = []
        for k in range((copies if clip.split == "train" else min(copies, HELD_COPIES)) + 1):
            mine.append(leaves[f"copy_{k}"][places[k] : places[k] + clip.length])
            places[k] += clip.length
        contexts.append(tuple(mine))
    silence = leaves["silence"]
    return Heard(clips, tuple(contexts), tuple(np.split(silence, 80)))
