"""What flows through a graph: real inputs, and how large each tensor gets. Precision is chosen by this, not by
rules of thumb.

Contexts come from the pack's own encoder over speech: files of a folder that the user names (a corpus, or any
recordings), else a made-up buzz. Conditions are drawn from their declared ranges, most of them small, as they are
in use.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from engine.audio.files import read_speech
from engine.avatar import Avatar
from engine.manifest import HOP_SAMPLES
from export.signals import speech_like

Array = NDArray[np.float32]
Feed = dict[str, Array]
SOUNDS = (".flac", ".wav", ".mp3", ".opus", ".ogg", ".m4a")
BINS = 2048
SECONDS_EACH = 4


@dataclass(frozen=True)
class Spread:
    """Sizes of a tensor's values over all feeds: a histogram of |x| from 0 to `largest`, and the largest in each
    channel.
    """

    largest: float
    counts: NDArray[np.int64]

    def clip_for_int8(self) -> float:
        """The range +-clip whose 255 steps lose least (mean square) to rounding inside and clipping outside."""
        if self.largest == 0:
            return 1.0
        centres = (np.arange(BINS) + 0.5) / BINS * self.largest
        best, lowest = self.largest, np.inf
        for share in np.linspace(0.2, 1.0, 65):
            clip = share * self.largest
            inside = centres <= clip
            rounding = (clip / 127) ** 2 / 12 * self.counts[inside].sum()
            clipping = (self.counts[~inside] * (centres[~inside] - clip) ** 2).sum()
            if rounding + clipping < lowest:
                best, lowest = float(clip), float(rounding + clipping)
        return best


def sounds(folder: Path | None, count: int, seed: int = 0) -> list[Array]:
    """Stretches of speech, each [hops, 160]; made up if no folder is given. Raises `ValueError` for a folder
    without sound.
    """
    hops = SECONDS_EACH * 100
    if folder is None:
        return [speech_like(hops, seed + k) for k in range(count)]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SOUNDS)
    if not files:
        raise ValueError(f"{folder} holds no sound ({', '.join(SOUNDS)}); give a corpus or a folder of recordings")
    rng = np.random.default_rng(seed)
    stretches = []
    for k in rng.choice(len(files), count, replace=count > len(files)):
        samples = read_speech(files[k])
        start = int(rng.integers(0, max(1, len(samples) - hops * HOP_SAMPLES)))
        piece = samples[start : start + hops * HOP_SAMPLES]
        stretches.append(np.pad(piece, (0, hops * HOP_SAMPLES - len(piece))).reshape(hops, HOP_SAMPLES))
    return stretches


def encoder_feeds(avatar: Avatar, stretches: Iterable[Array], every: int = 7) -> tuple[list[Feed], list[Array]]:
    """Runs the encoder over each stretch -> inputs with state of every `every`th hop, and all contexts [hops, C] of
    each.
    """
    model, spec = avatar.graph("audio_encoder")
    session = open_session(model)
    names = [value.name for value in session.get_outputs()]
    feeds, contexts = [], []
    for stretch in stretches:
        state = {name: np.zeros(shape, np.float32) for name, shape in spec.inputs_of("state").items()}
        heard = []
        for k, hop in enumerate(stretch):
            feed = {"samples": hop[None], **state}
            if k % every == 0:
                feeds.append(feed)
            found = dict(zip(names, session.run(None, feed), strict=True))
            state = {name: found[following] for name, following in spec.state.items()}
            heard.append(found["context"][0])
        contexts.append(np.stack(heard))
    return feeds, contexts


def decoder_feeds(avatar: Avatar, contexts: Sequence[Array], count: int, seed: int = 0) -> list[Feed]:
    """Inputs of the frame decoder: windows of real contexts, people in turn, conditions across their ranges."""
    _, spec = avatar.graph("frame_decoder")
    rng, window = np.random.default_rng(seed), avatar.manifest.audio.window_hops
    people = [avatar.person(name) for name in avatar.people]
    feeds = []
    for k in range(count):
        heard = contexts[k % len(contexts)]
        end = int(rng.integers(window, len(heard) + 1))
        feed: Feed = {"context": heard[None, end - window : end]}
        for name, shape in spec.inputs_of("condition").items():
            condition = avatar.manifest.conditions[name]
            bounds = (np.broadcast_to(np.asarray(b, np.float32), shape) for b in (condition.min, condition.max))
            low, high = bounds
            wide = rng.uniform(low, high)  # a third of the frames at the edges, the others near rest, as a face is
            feed[name] = (wide * (1.0 if k % 3 == 0 else rng.uniform(0, 0.5))).astype(np.float32)
        feeds.append(feed | dict(people[k % len(people)].tensors))
    return feeds


def spreads(model: onnx.ModelProto, feeds: Sequence[Mapping[str, Array]], tensors: Iterable[str]) -> dict[str, Spread]:
    """Runs the model with `tensors` as further outputs -> how large they get."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    given = {value.name for value in (*model.graph.input, *model.graph.output)}
    wanted = list(dict.fromkeys(name for name in tensors))
    inner = [name for name in wanted if name not in given]
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inner)
    session = open_session(watched.SerializeToString())
    names = [value.name for value in session.get_outputs() if value.name in set(wanted)]
    largest = dict.fromkeys(wanted, 0.0)
    kept: dict[str, list[Array]] = {name: [] for name in wanted}
    rng = np.random.default_rng(0)
    for feed in feeds:
        found = {n: feed[n] for n in wanted if n in feed}
        if names:  # asked for nothing, ONNX Runtime gives everything
            found |= dict(zip(names, session.run(names, dict(feed)), strict=True))
        for name, value in found.items():
            sizes = np.abs(np.asarray(value, np.float32)).ravel()
            largest[name] = max(largest[name], float(sizes.max(initial=0)))
            kept[name].append(sizes if sizes.size <= 16_384 else rng.choice(sizes, 16_384))
    return {name: Spread(largest[name], _histogram(kept[name], largest[name])) for name in wanted}


def _histogram(values: list[Array], largest: float) -> NDArray[np.int64]:
    if not values or largest == 0:
        return np.zeros(BINS, np.int64)
    return np.asarray(np.histogram(np.concatenate(values), BINS, (0, largest))[0], np.int64)


def open_session(model: bytes) -> Any:
    """A session of ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
