"""The reader that a pack carries: both live students and what is usual for the voice, as one streaming graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.speech2video.manner import FEATURES, Manner
from training.models.speech2video.students import Listened, Students, habit_of
from training.models.streaming import State

USUAL_S = 60.0
"""What is usual is forgotten over so many seconds of speech."""


class VoiceReader(nn.Module):
    """The students as a pack's graph, ONNX-ready; asked every 100 ms.

        context [1, hops, C], usual [1, C], seconds [1, 1], samples [1, 1600], leaves
            -> emotion [1, 6], people [1, P], leaves

    samples: the sound since it was asked last. emotion: probabilities in the order of docs/formats.md. people: how well the
    voice fits each person of the pack, in the manifest's order: the cosine of nu and the person's VGG feature, less that
    person's mean over many voices and in units of its spread, so that no face is everybody's. The 4,096 numbers of nu are
    folded away: with nu = A h + b, nu . g = (A' g) . h + b . g, and |nu| comes from A' A.
    """

    samples = 1600

    def __init__(self, students: Students, gallery: Tensor, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        if not students.config.rows:
            raise ValueError("expected live students, which hear rows of manner; train them: training.stages.distil")
        self.config, self.students, self.identity = students.config, students, students.identity
        self.manner = Manner()
        out = self.identity.out
        faces = F.normalize(gallery.double(), dim=1)
        whole = torch.cat([out.weight.detach().double(), out.bias.detach().double()[:, None]], 1)  # [D, h + 1]
        self.register_buffer("faces", (faces @ whole).float())  # [P, h + 1]
        self.register_buffer("gram", (whole.T @ whole).float())
        self.register_buffer("mean", mean.float()[None])
        self.register_buffer("spread", spread.float()[None])

    def initial(self) -> State:
        """Leaves by name, zeros: sound before the first, rows before those, the voice's habit as sums."""
        rows = torch.zeros(1, self.config.rows, FEATURES)
        return self.manner.initial(1) | {"rows": rows, "habit": torch.zeros(1, FEATURES), "voiced": torch.zeros(1, 1)}

    def forward(
        self,
        context: Tensor,
        usual: Tensor,
        seconds: Tensor,
        samples: Tensor,
        tail: Tensor,
        rows: Tensor,
        habit: Tensor,
        voiced: Tensor,
    ) -> tuple[Tensor, ...]:
        state, new = self.manner.step({"tail": tail}, samples)
        rows = torch.cat([rows[:, new.shape[1] :], new], 1)
        added, spoken = habit_of(new[0])
        kept = torch.exp(-spoken / USUAL_S)
        habit, voiced = kept * habit + added, kept * voiced + spoken
        omegas = context[:, :: self.config.stride]
        heard = Listened(omegas, usual, seconds, rows, habit / voiced.clamp(min=1e-3), voiced)
        emotion = self.students.emotion(*self.students.departures(heard)).softmax(1)
        h = self.identity.pooled(omegas, self.students.throat(rows))
        h = torch.cat([h, torch.ones_like(h[:, :1])], 1)
        length = ((h @ self.gram) * h).sum(1, keepdim=True).clamp(min=1e-12).sqrt()
        return emotion, (h @ self.faces.T / length - self.mean) / self.spread, state["tail"], rows, habit, voiced
