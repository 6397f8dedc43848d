"""What a talking mouth must get right: the weights, the gap between the lips, closures, and how all of it moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOUTH_WEIGHT, FACE_WEIGHT = 1.0, 0.3
_MOUTH_PREFIXES = ("mouth", "jaw", "tongue", "cheekPuff")


class TalkingLoss(nn.Module):
    """`pred, truth [B, F, 60], aperture, emphasis, valid [B, F] -> (loss, terms)`, all means over the valid frames.

    `emphasis` is 1 where lips are shut for M, B or P, else 0; such frames count threefold. `gap` and `rest` give the
    aperture as a linear function of the weights. `spread` is the aperture's standard deviation in the corpus.
    """

    gap: Tensor

    def __init__(self, names: tuple[str, ...], gap: Tensor, rest: float, spread: float) -> None:
        super().__init__()
        mouth = torch.tensor([name.startswith(_MOUTH_PREFIXES) for name in names])
        self.register_buffer("shares", torch.where(mouth, MOUTH_WEIGHT, FACE_WEIGHT), persistent=False)
        self.register_buffer("gap", gap, persistent=False)
        self.rest, self.spread = rest, spread

    def aperture(self, expression: Tensor) -> Tensor:
        return expression @ self.gap + self.rest

    def forward(
        self, pred: Tensor, truth: Tensor, aperture: Tensor, emphasis: Tensor, valid: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        frames = valid * (1.0 + 2.0 * emphasis)
        frames = frames / frames.sum()
        # a tenth of a weight is where errors begin to show
        shape = F.smooth_l1_loss(pred / 0.1, truth / 0.1, reduction="none", beta=1.0)
        weights = ((shape * self.shares).mean(-1) * frames).sum()
        error = (self.aperture(pred) - aperture) / self.spread
        lips = (error.square() * frames).sum()
        # lips that should be shut and are not: the error people see first
        open_still = F.relu(error) * emphasis * valid
        closures = open_still.sum() / (emphasis * valid).sum().clamp(min=1.0)
        moving = valid[:, 1:] * valid[:, :-1]
        steps = (pred.diff(dim=1) - truth.diff(dim=1)).abs() / 0.1 * self.shares
        motion = (steps.mean(-1) * moving).sum() / moving.sum()
        gap_motion = (((error.diff(dim=1)).abs()) * moving).sum() / moving.sum()
        loss = weights + 1.5 * lips + 0.8 * closures + 0.5 * motion + 0.2 * gap_motion
        terms = {"weights": weights, "lips": lips, "closures": closures, "motion": motion}
        return loss, {name: float(term.detach()) for name, term in terms.items()}
