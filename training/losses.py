"""What training minimises.

``feature`` is the recipe of the published model: L1 on pixels, on VGG-16 features and on their
Gram matrices (Johnson et al., ECCV 2016, as in fastai's super-resolution lesson).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refocus.training.unet import Refocused
from refocus.training.vgg import VGG16Features

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


def distance_loss(output: Refocused, distance_um: Tensor) -> Tensor:
    """Gaussian negative log likelihood of the distance from focus, where it is known."""
    known = ~torch.isnan(distance_um)
    if not known.any():
        return output.distance_um.sum() * 0.0
    mean, sigma = torch.split(output.distance_um[known], 1, 1)
    truth = distance_um[known].view(-1, 1, 1, 1)
    return torch.mean(((mean - truth) / sigma) ** 2 / 2 + torch.log(sigma))


def error_loss(output: Refocused, target: Tensor) -> Tensor:
    """Laplace negative log likelihood of the refocused pixels' error; moves its scale alone."""
    # one bright outlier must not decide the step
    error = F.avg_pool2d((output.pixels.detach() - target).abs(), 2).clamp(max=1.0)
    return (error / output.error + torch.log(output.error)).mean()
