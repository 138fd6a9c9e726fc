"""What training minimises.

``feature`` is the recipe of the published model: L1 on pixels, on VGG-16 features and on their
Gram matrices (Johnson et al., ECCV 2016, as in fastai's super-resolution lesson).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refocus.training.network.unet import Refocused
from refocus.training.network.vgg import VGG16Features

FEATURE_WEIGHTS = (5.0, 15.0, 2.0)
GRAM_SCALE = 5e3


def structural_similarity(a: Tensor, b: Tensor, window: int = 7) -> Tensor:
    """Mean SSIM of ``(N, 1, H, W)`` in [0, 1], uniform window (Wang et al. 2004)."""
    c1, c2 = 0.01**2, 0.03**2
    stacked = torch.cat([a, b, a * a, b * b, a * b], 1)
    mean_a, mean_b, aa, bb, ab = torch.split(F.avg_pool2d(stacked, window, 1), 1, 1)
    var_a, var_b, cov = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return torch.mean(top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))


def gram(features: Tensor) -> Tensor:
    """Gram matrix ``(N, C, C)`` of features ``(N, C, H, W)``, per element."""
    n, c, h, w = features.shape
    flat = features.reshape(n, c, h * w)
    return flat @ flat.transpose(1, 2) / (c * h * w)


class ImageLoss(nn.Module):
    """How far refocused pixels are from the target, each pair in units of its own range.

    Parameters
    ----------
    kind
        ``l1``, ``l1+ssim``, ``rms+ssim``, ``psnr+ssim``, ``feature`` or ``feature+ssim``. ``rms``
        is each pair's root mean squared error instead of its mean absolute one. ``psnr`` adds the
        logarithm of the mean squared error, so that a decibel gained on a frame near focus counts
        as much as one on a frame far from it.
    vgg
        ``imagenet`` or ``random``, the weights of the VGG-16 of ``feature``.
    """

    def __init__(self, kind: str, vgg: str = "random") -> None:
        super().__init__()
        self.with_psnr = kind.startswith("psnr")
        self.with_rms = kind.startswith("rms")
        self.with_ssim = kind.endswith("+ssim")
        self.features = VGG16Features(vgg) if kind.startswith("feature") else None

    def forward(self, pixels: Tensor, target: Tensor, span: Tensor) -> Tensor:
        """Compare ``(N, 1, H, W)`` with its target; ``span`` ``(N,)`` is the target's range."""
        scale = 1.0 / span.view(-1, 1, 1, 1)
        a, b = pixels * scale, target * scale
        squared = ((a - b) ** 2).mean((1, 2, 3))
        loss = (squared + 1e-8).sqrt().mean() if self.with_rms else F.l1_loss(a, b)
        if self.with_psnr:
            loss = loss + 0.1 * torch.log10(squared + 1e-5).mean()
        if self.with_ssim:
            loss = loss + 0.05 * (1 - structural_similarity(a.clamp(0, 1), b.clamp(0, 1)))
        if self.features is not None:
            loss = loss + self._feature_loss(a, b)
        return loss

    def _feature_loss(self, a: Tensor, b: Tensor) -> Tensor:
        assert self.features is not None
        with torch.no_grad():
            wanted = self.features(b)
        loss = a.new_zeros(())
        for weight, fa, fb in zip(FEATURE_WEIGHTS, self.features(a), wanted, strict=True):
            loss = loss + weight * F.l1_loss(fa, fb)
            loss = loss + weight**2 * GRAM_SCALE * F.l1_loss(gram(fa), gram(fb))
        return loss


def focus_loss(output: Refocused, known: Tensor) -> Tensor:
    """Judge the estimated light path ``(N, 4, H, W)`` against ``known`` ``(N, 3)``, NaN unknown.

    Negative log likelihoods: Gaussian of the distance, Bernoulli of the side, and Laplace of the
    spherical aberration, with a scale of a fifth of a wave.
    """
    mean, sigma, side, spherical = torch.split(output.focus, 1, 1)
    there = ~torch.isnan(known).view(-1, 3, 1, 1)
    distance, positive, waves = torch.split(torch.nan_to_num(known).view(-1, 3, 1, 1), 1, 1)
    likely = positive * side + (1 - positive) * (1 - side)
    parts = torch.cat(
        [
            ((mean - distance) / sigma) ** 2 / 2 + torch.log(sigma),
            -torch.log(likely.clamp_min(1e-4)),
            (spherical - waves).abs() / 0.2,
        ],
        1,
    )
    counted = there.sum(0).clamp_min(1) * mean[0].numel()
    return (torch.where(there, parts, 0.0).sum((0, 2, 3)) / counted.flatten()).sum()


def error_loss(output: Refocused, target: Tensor) -> Tensor:
    """Laplace negative log likelihood of the refocused pixels' error; moves its scale alone."""
    # one bright outlier must not decide the step
    error = F.avg_pool2d((output.pixels.detach() - target).abs(), 2).clamp(max=1.0)
    return (error / output.error + torch.log(output.error)).mean()
