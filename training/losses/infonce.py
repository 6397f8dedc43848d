"""InfoNCE: the latent that truly follows, told apart from latents of other moments and other speakers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def anchor_times(batch: int, hops: int, steps: int, per_utterance: int, warm_hops: int, seed: int) -> Tensor:
    """Hops at which contexts predict, `[batch, per_utterance]`, no repeats, from `warm_hops` to `hops - steps - 1`."""
    last = hops - steps
    if last - warm_hops < per_utterance:
        raise ValueError(
            f"{hops} hops leave {last - warm_hops} anchors, {per_utterance} are asked for: take longer crops"
        )
    order = torch.rand(batch, last - warm_hops, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    return order[:, :per_utterance] + warm_hops


def infonce(predicted: Tensor, latents: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss in nats and accuracy `[K]` over future steps 1..K.

    `predicted [K, B * N, D]` are predictions from the contexts at `anchors [B, N]`; `latents [B, T, D]`. For each step
    the positive is the latent k hops later; the negatives are the positives of all other anchors of the batch, those
    of the same utterance and of the others. Scores are cosine over a temperature of 0.1.
    Source: van den Oord et al. 2018, eq. 4.
    """
    steps = predicted.shape[0]
    batch = torch.arange(latents.shape[0], device=latents.device)[:, None]
    losses, right = [], []
    for k in range(steps):
        later = latents[batch, anchors + k + 1].flatten(0, 1)
        scores = F.normalize(predicted[k], dim=-1) @ F.normalize(later, dim=-1).T / 0.1
        target = torch.arange(scores.shape[0], device=scores.device)
        losses.append(F.cross_entropy(scores, target))
        right.append((scores.argmax(dim=1) == target).float().mean())
    return torch.stack(losses).mean(), torch.stack(right).detach()
