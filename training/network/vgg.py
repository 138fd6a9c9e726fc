"""The VGG-16 of the feature loss (Simonyan & Zisserman 2015), with torchvision's names."""

import torch
from torch import Tensor, nn

from refocus.configs import RefocusError

IMAGENET_URL = "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth"
LAYOUT = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)
TAPS = (22, 32, 42)
"""The ReLU before the third, fourth and fifth max-pool."""


class VGG16Features(nn.Module):
    """Frozen activations of VGG-16 with batch norm, in evaluation mode.

    Parameters
    ----------
    weights
        ``imagenet``, or ``random``: He-initialised, whose activations keep the scale of the input
        and still compare edges and textures across scales (He et al., NeurIPS 2016, show that
        random features carry style and content), for machines without the checkpoint.
    """

    def __init__(self, weights: str = "imagenet") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_in = 3
        for width in LAYOUT:
            if width == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(width_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            width_in = width
        self.features = nn.Sequential(*layers)
        if weights == "imagenet":
            self._load_imagenet()
        else:
            self._draw()
        self.requires_grad_(False)
        self.eval()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), False)

    def train(self, mode: bool = True) -> "VGG16Features":
        """Stay in evaluation mode: the loss must not drift."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Give the activations of ``(N, 1, H, W)`` pixels in [0, 1] at the three taps."""
        x = (pixels - self.mean) / self.std
        taken = []
        for i, layer in enumerate(list(self.features)[: TAPS[-1] + 1]):
            x = layer(x)
            if i in TAPS:
                taken.append(x)
        return taken

    def _draw(self) -> None:
        generator = torch.Generator().manual_seed(16)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                fan = layer.in_channels * 9
                drawn = torch.randn(layer.weight.shape, generator=generator) * (2 / fan) ** 0.5
                layer.weight.data.copy_(drawn)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def _load_imagenet(self) -> None:
        try:
            state = torch.hub.load_state_dict_from_url(
                IMAGENET_URL, map_location="cpu", check_hash=True, weights_only=True, progress=False
            )
        except Exception as error:  # every way a download fails ends the same for the user
            raise RefocusError(
                f"VGG-16 weights could not be fetched from {IMAGENET_URL} ({error}); put the file "
                f"into {torch.hub.get_dir()}/checkpoints, or set 'vgg: random'"
            ) from error
        kept = {n: v for n, v in state.items() if n.startswith("features.")}
        self.load_state_dict(kept, strict=False)
