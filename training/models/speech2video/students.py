"""What a voice says about its speaker: S_emo and S_id on omega = c_T, and the reader that a pack carries.

    omega [B, C] ------------------> Student ------------------------------> mu [B, 6], nu [B, 4096]     (the paper's)
    omegas of a second [B, N, C] --> the same per omega --> pooled: mean, spread --> mu, nu              (the live one)

Both are the same network: a window of one omega is the paper's student, and omega may be taken at any time of a running
stream. A longer window hears how the voice moves (the spread of its pitch), which no single moment tells. The live S_emo
hears each omega less what is usual for this voice at this microphone, since a mood is a departure from it: level,
brightness and pitch alone say as much about the speaker and the microphone. What is usual is the mean omega of the speech
so far; while little has been said, that of the training voices stands in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.speech2video.vgg import FEATURE

EMOTIONS = 6
PRIOR_S = 4.0
"""The typical voice counts as much as so many seconds of this one."""


@dataclass(frozen=True)
class StudentConfig:
    """Shape of both students. `window` omegas, `stride` hops of 10 ms apart; a window of 1 is the paper's omega."""

    context_size: int = 256
    window: int = 16
    stride: int = 8
    hidden: int = 128
    feature: int = FEATURE
    relative: bool = True
    """Whether S_emo hears omegas less what is usual for the voice; the paper's does not."""

    @property
    def window_hops(self) -> int:
        """Hops that a reader must be handed."""
        return (self.window - 1) * self.stride + 1


class Student(nn.Module):
    """`omegas [B, N, C] -> feature [B, outputs]`: each omega is sensed alone, then pooled with learned weights."""

    def __init__(self, config: StudentConfig, outputs: int, dropout: float = 0.2) -> None:
        super().__init__()
        h = config.hidden
        self.sense = nn.Sequential(
            nn.LayerNorm(config.context_size), nn.Linear(config.context_size, h), nn.SiLU(), nn.Linear(h, h), nn.SiLU()
        )
        self.attend = nn.Linear(h, 1)
        self.mix = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * h, h), nn.SiLU(), nn.Dropout(dropout))
        self.out = nn.Linear(h, outputs)

    def pooled(self, omegas: Tensor) -> Tensor:
        """`[B, hidden]`, all but the last layer."""
        x = self.sense(omegas)
        weight = self.attend(x).softmax(1)
        mean = (weight * x).sum(1)
        spread = (weight * (x - mean.unsqueeze(1)).square()).sum(1)
        return self.mix(torch.cat([mean, (spread + 1e-6).sqrt()], 1))

    def forward(self, omegas: Tensor) -> Tensor:
        return self.out(self.pooled(omegas))


class Students(nn.Module):
    """`omegas [B, N, C], usual [B, C], seconds [B, 1] -> (mu [B, 6], nu [B, 4096])`.

    usual: the mean omega of what this voice has said so far, over so many seconds of speech.
    """

    typical: Tensor

    def __init__(self, config: StudentConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StudentConfig()
        self.emotion = Student(config, EMOTIONS)
        self.identity = Student(config, config.feature)
        self.register_buffer("typical", torch.zeros(config.context_size))

    def departures(self, omegas: Tensor, usual: Tensor, seconds: Tensor) -> Tensor:
        """What S_emo hears."""
        if not self.config.relative:
            return omegas
        baseline = (PRIOR_S * self.typical + seconds * usual) / (PRIOR_S + seconds)
        return omegas - baseline.unsqueeze(1)

    def forward(self, omegas: Tensor, usual: Tensor, seconds: Tensor) -> tuple[Tensor, Tensor]:
        return self.emotion(self.departures(omegas, usual, seconds)), self.identity(omegas)


def cosine(nu: Tensor, gallery: Tensor) -> Tensor:
    """How alike voices and faces are: `nu [B, D], gallery [P, D] -> [B, P]`, cosines."""
    return F.normalize(nu, dim=1) @ F.normalize(gallery, dim=1).T


class VoiceReader(nn.Module):
    """The students as a pack's graph, ONNX-ready:
    `context [1, hops, C], usual [1, C], seconds [1, 1] -> emotion [1, 6], people [1, P]`.

    emotion: probabilities in the order of docs/formats.md. people: how well the voice fits each person of the pack, in
    the manifest's order: the cosine of nu and the person's VGG feature, less that person's mean over many voices and in
    units of its spread, so that no face is everybody's. The 4,096 numbers of nu are folded away: with nu = A h + b,
    nu . g = (A' g) . h + b . g, and |nu| comes from A' A.
    """

    def __init__(self, students: Students, gallery: Tensor, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.config, self.students, self.identity = students.config, students, students.identity
        out = self.identity.out
        faces = F.normalize(gallery.double(), dim=1)
        whole = torch.cat([out.weight.detach().double(), out.bias.detach().double()[:, None]], 1)  # [D, h + 1]
        self.register_buffer("faces", (faces @ whole).float())  # [P, h + 1]
        self.register_buffer("gram", (whole.T @ whole).float())
        self.register_buffer("mean", mean.float()[None])
        self.register_buffer("spread", spread.float()[None])

    def forward(self, context: Tensor, usual: Tensor, seconds: Tensor) -> tuple[Tensor, Tensor]:
        omegas = context[:, :: self.config.stride]
        emotion = self.students.emotion(self.students.departures(omegas, usual, seconds)).softmax(1)
        h = self.identity.pooled(omegas)
        h = torch.cat([h, torch.ones_like(h[:, :1])], 1)
        length = ((h @ self.gram) * h).sum(1, keepdim=True).clamp(min=1e-12).sqrt()
        return emotion, (h @ self.faces.T / length - self.mean) / self.spread


def save_reader(students: Students, path: Path, about: Mapping[str, Any], write: Any) -> None:
    """`PATH.safetensors` (fp16) and its .json, by way of `write(path, tensors)`."""
    write(path.with_suffix(".safetensors"), {name: leaf.half() for name, leaf in students.state_dict().items()})
    part = path.with_suffix(".json.part")
    part.write_text(json.dumps(dict(about), indent=1) + "\n")
    part.replace(path.with_suffix(".json"))


def load_students(path: Path) -> tuple[Students, dict[str, Any]]:
    """Rebuilds trained students and what is known of them; raises ValueError with the reason."""
    weights, words = Path(path).with_suffix(".safetensors"), Path(path).with_suffix(".json")
    try:
        about = json.loads(words.read_text())
        students = Students(StudentConfig(**about["config"]))
        tensors = {name: leaf.float() for name, leaf in load_file(weights).items()}
        students.load_state_dict({name: tensors[name] for name in students.state_dict()})
    except (OSError, KeyError, TypeError, json.JSONDecodeError, RuntimeError) as error:
        raise ValueError(
            f"{weights}: expected students of training.stages.distil beside their JSON: {error}"
        ) from error
    return students.eval().requires_grad_(False), about
