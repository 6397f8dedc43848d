"""What a voice says about its speaker: S_emo and S_id on omega = c_T.

    omega [B, C] ------------------> Student ------------------------------> mu [B, 6], nu [B, 4096]     (the paper's)
    omegas of a second [B, N, C] --> the same per omega --> pooled: mean, spread --> mu, nu              (the live one)
    rows of manner [B, R, 18] -----> sensed in fives -----> pooled likewise ----^

The paper's student is a window of one omega, and omega may be taken at any time of a running stream. The live one hears
how the voice moves, too: a second of omegas, and beside them pitch and loudness (`manner.py`), of which contexts that were
learned for words and lips keep little. Its S_emo hears both less what is usual for this voice at this microphone, since a
mood is a departure from it: level, brightness and pitch alone say as much about the speaker and the microphone. What is
usual is the mean of the speech so far; while little has been said, that of the training voices stands in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.cpc import RATE
from training.models.speech2video.manner import FEATURES, HOP, PITCH, VOICING
from training.models.speech2video.vgg import FEATURE

EMOTIONS = 6
PRIOR_S = 4.0
"""The typical voice counts as much as so many seconds of this one."""
ROW_S = HOP / RATE


@dataclass(frozen=True)
class StudentConfig:
    """Shape of both students. `window` omegas, `stride` hops of 10 ms apart; a window of 1 is the paper's omega."""

    context_size: int = 256
    window: int = 16
    stride: int = 8
    hidden: int = 128
    feature: int = FEATURE
    relative: bool = True
    """Whether S_emo hears what it hears less what is usual for the voice; the paper's does not."""
    rows: int = 0
    """Rows of manner, 20 ms each, that are heard beside the omegas; the paper's students hear none."""

    @property
    def window_hops(self) -> int:
        """Hops that a reader must be handed."""
        return (self.window - 1) * self.stride + 1


class Listened(NamedTuple):
    """What students are given of B moments of a voice.

    `usual [B, C]`: the mean omega of what this voice has said so far, over `seconds [B, 1]` of speech. `habit [B, 18]`: the
    mean row of manner where it was voiced, over `voiced [B, 1]` seconds. The last three are for students with rows.
    """

    omegas: Tensor
    usual: Tensor
    seconds: Tensor
    rows: Tensor | None = None
    habit: Tensor | None = None
    voiced: Tensor | None = None


class Pooling(nn.Module):
    """`[B, N, size] -> [B, 2 size]`: mean and spread over time, by learned weights."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.attend = nn.Linear(size, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.attend(x).softmax(1)
        mean = (weight * x).sum(1)
        spread = (weight * (x - mean.unsqueeze(1)).square()).sum(1)
        return torch.cat([mean, (spread + 1e-6).sqrt()], 1)


class RowSense(nn.Module):
    """Rows of manner `[B, R, 18] -> [B, R, size]`: each alone, then with its neighbours, for how pitch and level move."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.alone = nn.Sequential(nn.Linear(FEATURES, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU())
        self.around = nn.Conv1d(size, size, 5, padding=2)

    def forward(self, rows: Tensor) -> Tensor:
        x = self.alone(rows)
        return x + F.silu(self.around(x.transpose(1, 2))).transpose(1, 2)


class Student(nn.Module):
    """`omegas [B, N, C], rows [B, R, 18] -> feature [B, outputs]`: what is heard at each time, pooled."""

    def __init__(self, config: StudentConfig, outputs: int, dropout: float = 0.3) -> None:
        super().__init__()
        h = config.hidden
        self.sense = nn.Sequential(
            nn.LayerNorm(config.context_size), nn.Linear(config.context_size, h), nn.SiLU(), nn.Linear(h, h), nn.SiLU()
        )
        self.pool = Pooling(h)
        if config.rows:
            self.row_sense, self.row_pool = RowSense(h // 2), Pooling(h // 2)
        inputs = 3 * h if config.rows else 2 * h
        self.mix = nn.Sequential(nn.Dropout(dropout), nn.Linear(inputs, h), nn.SiLU(), nn.Dropout(dropout))
        self.out = nn.Linear(h, outputs)

    def pooled(self, omegas: Tensor, rows: Tensor | None) -> Tensor:
        """`[B, hidden]`, all but the last layer."""
        x = self.pool(self.sense(omegas))
        if rows is not None:
            x = torch.cat([x, self.row_pool(self.row_sense(rows))], 1)
        mixed: Tensor = self.mix(x)
        return mixed

    def forward(self, omegas: Tensor, rows: Tensor | None = None) -> Tensor:
        feature: Tensor = self.out(self.pooled(omegas, rows))
        return feature


class Students(nn.Module):
    """`Listened -> (mu [B, 6], nu [B, 4096])`."""

    typical: Tensor
    typical_row: Tensor

    def __init__(self, config: StudentConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StudentConfig()
        self.emotion = Student(config, EMOTIONS)
        self.identity = Student(config, config.feature)
        self.register_buffer("typical", torch.zeros(config.context_size))
        self.register_buffer("typical_row", torch.zeros(FEATURES))

    def departures(self, heard: Listened) -> tuple[Tensor, Tensor | None]:
        """What S_emo hears: omegas, and rows if there are any."""
        if not self.config.relative:
            return heard.omegas, heard.rows
        usual = _known(self.typical, heard.usual, heard.seconds)
        if heard.rows is None or heard.habit is None or heard.voiced is None:
            return heard.omegas - usual[:, None], None
        habit = _known(self.typical_row, heard.habit, heard.voiced)[:, None]
        # pitch is pitch times voicing, so that what is unvoiced departs from nothing
        voicing, pitch = heard.rows[..., VOICING, None], heard.rows[..., PITCH, None]
        bands = heard.rows[..., PITCH + 1 :] - habit[..., PITCH + 1 :]
        return heard.omegas - usual[:, None], torch.cat([voicing, pitch - voicing * habit[..., PITCH, None], bands], -1)

    def throat(self, rows: Tensor | None) -> Tensor | None:
        """What S_id hears of the rows: their level says nothing about who speaks."""
        if rows is None:
            return None
        bands = rows[..., PITCH + 1 :]
        return torch.cat([rows[..., : PITCH + 1], bands - bands.mean(-1, keepdim=True)], -1)

    def forward(self, heard: Listened) -> tuple[Tensor, Tensor]:
        return self.emotion(*self.departures(heard)), self.identity(heard.omegas, self.throat(heard.rows))


def _known(typical: Tensor, own: Tensor, seconds: Tensor) -> Tensor:
    return (PRIOR_S * typical + seconds * own) / (PRIOR_S + seconds)


def habit_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    """What rows `[n, 18]` add to a voice's habit: their sum by voicing `[18]`, in seconds, and the seconds `[1]`.

    Pitch comes times voicing already; the first number is the voicing itself, which is nobody's habit, so it is 0.
    """
    voicing = rows[:, VOICING, None]
    sums = torch.cat([torch.zeros_like(voicing), rows[:, PITCH, None], voicing * rows[:, PITCH + 1 :]], 1).sum(0)
    return sums * ROW_S, voicing.sum(0) * ROW_S


def cosine(nu: Tensor, gallery: Tensor) -> Tensor:
    """How alike voices and faces are: `nu [B, D], gallery [P, D] -> [B, P]`, cosines."""
    return F.normalize(nu, dim=1) @ F.normalize(gallery, dim=1).T


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
