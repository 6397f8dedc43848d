"""The talker: what was heard in the last third of a second, and the mood, become the expression of the face.

It has no state: a window of contexts goes in, one frame comes out, so frames may be skipped and look-ahead is only a
matter of which window is handed in (`docs/formats.md`: newest hop = floor(16000 k / 30 / 160) - 1 + look-ahead).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.cpc import AudioEncoder, AudioEncoderConfig

HOPS_PER_SECOND = 100
FRAMES_PER_SECOND = 30


@dataclass(frozen=True)
class TalkerConfig:
    """Shape of the talker; `lookahead_hops` says which window it was trained on."""

    context_size: int = 256
    window_hops: int = 32
    lookahead_hops: int = 4
    width: int = 64
    hidden: int = 256
    emotions: int = 6
    expressions: int = 60


def newest_hops(first_frame: int, frames: int, lookahead_hops: int) -> Tensor:
    """Index of the newest context hop of each frame, `[frames]` int64, exact in integers."""
    k = torch.arange(first_frame, first_frame + frames)
    return (k * HOPS_PER_SECOND) // FRAMES_PER_SECOND - 1 + lookahead_hops


def windows_at(contexts: Tensor, newest: Tensor, window_hops: int) -> Tensor:
    """Windows that end at the hops `newest`: `[B, T, C], [F] -> [B, F, W, C]`; hops before 0 are zeros."""
    padded = F.pad(contexts, (0, 0, window_hops, 0))
    index = newest[:, None] + torch.arange(1, window_hops + 1)[None]
    if int(index.max()) >= padded.shape[1] or int(index.min()) < 0:
        raise ValueError(f"frames need hops {int(newest.min())}..{int(newest.max())}, there are {contexts.shape[1]}")
    return padded[:, index]


class Talker(nn.Module):
    """`window [B, W, C], emotion [B, 6] -> expression [B, 60]`, without blink and gaze lids.

    Each hop is narrowed, three strided convolutions fold the 32 hops to 4, and two layers mix them with the emotion.
    """

    def __init__(self, config: TalkerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TalkerConfig()
        w, h = config.width, config.hidden
        if config.window_hops % 8:
            raise ValueError(f"window_hops must be a multiple of 8, found {config.window_hops}")
        self.narrow = nn.Linear(config.context_size, w)
        self.folds = nn.ModuleList([nn.Conv1d(w, w, 4, 2, padding=1) for _ in range(3)])
        self.newest = nn.Linear(8 * w, h)
        self.folded = nn.Linear(config.window_hops // 8 * w, h)
        self.mood = nn.Linear(config.emotions, h)
        self.scale = nn.Linear(config.emotions, h)
        self.mix = nn.Linear(h, h)
        self.draw = nn.Linear(h, config.expressions)
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.scale.bias)

    def forward(self, window: Tensor, emotion: Tensor) -> Tensor:
        return self.from_narrow(self.narrow(window), emotion)

    def from_narrow(self, narrow: Tensor, emotion: Tensor) -> Tensor:
        """The same from hops already narrowed, `[B, W, width]`: training narrows each hop once for all its windows."""
        narrow = F.silu(narrow)
        x = narrow.transpose(1, 2)
        for fold in self.folds:
            x = F.silu(fold(x))
        # the newest 80 ms, unfolded: closures live there, and a stride would blur them
        x = self.folded(x.flatten(1)) + self.newest(narrow[:, -8:].flatten(1))
        x = F.silu(x * (1.0 + self.scale(emotion)) + self.mood(emotion))
        x = x + F.silu(self.mix(x))
        return self.draw(x)

    def offline(self, contexts: Tensor, emotion: Tensor, newest: Tensor) -> Tensor:
        """All frames of a stretch: `contexts [B, T, C], emotion [B, F, 6], newest [F] -> [B, F, 60]`."""
        config = self.config
        # a hop before the stream is a zero context, as in the live engine, hence the pad before narrowing
        padded = F.pad(contexts, (0, 0, config.window_hops, 0))
        windows = windows_at(self.narrow(padded), newest + config.window_hops, config.window_hops)
        batch, frames = windows.shape[:2]
        out = self.from_narrow(windows.flatten(0, 1), emotion.flatten(0, 1))
        return out.view(batch, frames, -1)


@dataclass(frozen=True)
class Hearing:
    """A trained pair, in eval mode: what the checkpoint of `training.stages.talker` holds."""

    encoder: AudioEncoder
    talker: Talker
    about: dict[str, object]


def load_hearing(path: Path) -> Hearing:
    """Rebuilds encoder and talker from `PATH.safetensors` and its .json; raises ValueError with the reason.

    Weights are stored as fp16 and used as fp32; the configuration stands in the JSON file of the same name.
    """
    weights, words = Path(path).with_suffix(".safetensors"), Path(path).with_suffix(".json")
    try:
        about = json.loads(words.read_text())
        encoder = AudioEncoder(AudioEncoderConfig(**about["config"]["encoder"]))
        talker = Talker(TalkerConfig(**about["config"]["talker"]))
        tensors = {name: leaf.float() for name, leaf in load_file(weights).items()}
        for module, prefix in ((encoder, "encoder."), (talker, "talker.")):
            module.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
    except (OSError, KeyError, TypeError, json.JSONDecodeError, RuntimeError) as error:
        raise ValueError(
            f"{weights}: expected a checkpoint of training.stages.talker beside its JSON: {error}"
        ) from error
    return Hearing(encoder.eval().requires_grad_(False), talker.eval().requires_grad_(False), about)
