"""The losses of Speech2Video, one function an equation of the paper. Sums over pixels and frames are means here.

LSGAN with the paper's labels: real is 0, generated is 1 for the discriminators; the generator is trained towards 0.
Source: Si et al., Speech2Video: cross-modal distillation for speech to video generation, 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LAMBDA = 0.025
UPPER_HALF = 0.2


def mean_expression(logits: Tensor) -> Tensor:
    """Eq. 1: `mu* [B, D]`, the teacher's mean over K random frames, `logits [B, K, D]`."""
    return logits.mean(1)


def distill(student: Tensor, teacher: Tensor) -> Tensor:
    """Eq. 3: softmax cross-entropy of two feature vectors `[B, D]`, mean over the batch.

    The teacher is the target distribution and gets no gradient; in the printed order the student's own entropy could
    vanish and the loss with it.
    """
    target = teacher.detach().softmax(1)
    return -(target * student.log_softmax(1)).sum(1).mean()


def normalised_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared distance of normalised vectors in eq. 2, mean over the batch."""
    return (F.normalize(student, dim=1) - F.normalize(teacher.detach(), dim=1)).square().sum(1).mean()


def joint_distillation(mu: Tensor, mu_star: Tensor, nu: Tensor, nu_star: Tensor, weight: float = LAMBDA) -> Tensor:
    """Eq. 2: both students against both teachers; `weight` is the paper's lambda."""
    emotion = weight * normalised_distance(mu, mu_star) + distill(mu, mu_star)
    return emotion + weight * normalised_distance(nu, nu_star) + distill(nu, nu_star)


def lsgan_real(score: Tensor) -> Tensor:
    """Half the squared distance of real ones' scores to 0."""
    return 0.5 * score.square().mean()


def lsgan_fake(score: Tensor) -> Tensor:
    """Half the squared distance of generated ones' scores to 1."""
    return 0.5 * (score - 1.0).square().mean()


def identity_adversarial(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Eq. 4, for D_id: scores of the inflated identity maps and of the VGG maps, one tensor a scale."""
    pairs = zip(fake, real, strict=True)
    return torch.stack([lsgan_fake(f) + lsgan_real(r) for f, r in pairs]).mean()


def frame_adversarial(fake: Tensor, real: Tensor) -> Tensor:
    """Eq. 5, for D_fr: scores of generated and of real frames."""
    return lsgan_fake(fake) + lsgan_real(real)


def sync_adversarial(matching: Tensor, mismatched: Tensor, fake: Tensor) -> Tensor:
    """Eq. 6, for D_sync: real pairs -> 0; a frame with the context of another time, and a generated frame -> 1."""
    return matching.square().mean() + lsgan_fake(mismatched) + lsgan_fake(fake)


def generator_adversarial(*scores: Tensor) -> Tensor:
    """Eq. 7 as the generator sees it: the mean squared score of what it made, summed over the discriminators."""
    return torch.stack([score.square().mean() for score in scores]).sum()


def similarity(drawn: Tensor, truth: Tensor, upper: float = UPPER_HALF) -> Tensor:
    """Eq. 8: absolute difference over the lower half, rows H/2..H, of `[B, 3, H, W]`; lightly over the upper half,
    so that hair and eyes do not drift.
    """
    half = drawn.shape[2] // 2
    difference = (drawn - truth).abs()
    return difference[:, :, half:].mean() + upper * difference[:, :, :half].mean()


def smoothed(image: Tensor, sigma: float = 1.0) -> Tensor:
    """psi of eq. 9: a Gaussian of 5 x 5, borders repeated."""
    x = torch.arange(-2.0, 3.0, device=image.device, dtype=image.dtype)
    line = torch.exp(-x.square() / (2 * sigma**2))
    line = line / line.sum()
    c = image.shape[1]
    image = F.pad(image, (2, 2, 2, 2), mode="replicate")
    image = F.conv2d(image, line.view(1, 1, 1, 5).expand(c, 1, 1, 5), groups=c)
    return F.conv2d(image, line.view(1, 1, 5, 1).expand(c, 1, 5, 1), groups=c)


def gradient(drawn: Tensor, truth: Tensor) -> Tensor:
    """Eq. 9: absolute difference between the gradients of the smoothed frames."""
    miss = smoothed(drawn) - smoothed(truth)  # smoothing and gradients are linear
    across, down = miss[..., :, 1:] - miss[..., :, :-1], miss[..., 1:, :] - miss[..., :-1, :]
    return across.abs().mean() + down.abs().mean()


def sync_matching(audio: Tensor, mouth: Tensor, sharpness: Tensor | float) -> Tensor:
    """SyncNet's loss: embeddings of length 1, `[C, K, E]`, of K moments of each of C clips. Each mouth must pick its
    sound out of all those of its clip, and each sound its mouth; so neither voice nor room nor face helps.

    Distances are SyncNet's (Chung and Zisserman 2016), the choice among many that of Chung, Chung and Kang, Perfect
    match, 2019, here both ways.
    """
    alike = sharpness * torch.einsum("cke,cje->ckj", mouth, audio)
    right = torch.arange(alike.shape[1], device=alike.device).expand(len(alike), -1)
    return 0.5 * (F.cross_entropy(alike.transpose(1, 2), right) + F.cross_entropy(alike, right))
