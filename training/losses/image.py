"""How far one picture is from another: pixels and edges for training, PSNR and SSIM for reports."""

import torch
import torch.nn.functional as F
from torch import Tensor


def over(premultiplied: Tensor, background: Tensor | float) -> Tensor:
    """Premultiplied [B, 4, H, W] over a background (a number or [B, 3, 1, 1]) -> [B, 3, H, W]."""
    return premultiplied[:, :3] + background * (1 - premultiplied[:, 3:])


def edges(image: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbours, to the right and downwards."""
    return image[..., :, 1:] - image[..., :, :-1], image[..., 1:, :] - image[..., :-1, :]


def pixel_loss(image: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference, weighted by a map [.., 1, H, W] where given."""
    difference = (image - truth).abs()
    return difference.mean() if weight is None else (difference * weight).mean()


def edge_loss(image: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference of gradients at full and half size: what keeps teeth, lashes and lip lines crisp."""
    total = image.new_zeros(())
    for scale in (1, 2):
        if scale == 2:
            image, truth = F.avg_pool2d(image, 2), F.avg_pool2d(truth, 2)
            weight = None if weight is None else F.avg_pool2d(weight, 2)
        for a, b, axis in zip(edges(image), edges(truth), (3, 2)):
            difference = (a - b).abs()
            if weight is not None:
                difference = difference * weight.narrow(axis, 0, difference.shape[axis])
            total = total + difference.mean()
    return total


def psnr(image: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Peak signal to noise ratio of pictures 0..1, dB, one per picture [B]; weight selects a region."""
    error = (image - truth).square().mean(1, keepdim=True)
    if weight is None:
        return -10 * torch.log10(error.mean((1, 2, 3)).clamp(min=1e-10))
    weight = weight.expand_as(error)
    return -10 * torch.log10(((error * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))).clamp(min=1e-10))


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of pictures 0..1, one per picture [B]: 11 x 11 Gaussian window, sigma 1.5.

    Source: Wang et al., Image quality assessment: from error visibility to structural similarity, 2004.
    """
    x = torch.arange(11, dtype=image.dtype, device=image.device) - 5
    line = torch.exp(-x.square() / (2 * 1.5**2))
    line = (line / line.sum()).view(1, 1, 1, 11)

    def blur(t: Tensor) -> Tensor:
        b, c, h, w = t.shape
        t = F.conv2d(t.reshape(b * c, 1, h, w), line)
        return F.conv2d(t, line.transpose(2, 3)).view(b, c, h - 10, w - 10)

    mean_a, mean_b = blur(image), blur(truth)
    var_a, var_b = blur(image * image) - mean_a**2, blur(truth * truth) - mean_b**2
    both = blur(image * truth) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return value.mean((1, 2, 3))
