"""The ResNet-34 encoder (He et al., CVPR 2016), with torchvision's parameter names.

The names let the published ImageNet checkpoint load without torchvision.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refocus.configs import RefocusError

IMAGENET_URL = "https://download.pytorch.org/models/resnet34-b627a593.pth"


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = (
            nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            if stride != 1 or width_in != width
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, width, H/stride, W/stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(shortcut + self.bn2(self.conv2(x)))


class ResNet34Encoder(nn.Module):
    """ResNet-34 without its classifier, for one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _layer(64, 64, 3, 1)
        self.layer2 = _layer(64, 128, 4, 2)
        self.layer3 = _layer(128, 256, 6, 2)
        self.layer4 = _layer(256, 512, 3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Give the features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the frame."""
        half = F.relu(self.bn1(self.conv1(x)))
        quarter = self.layer1(F.max_pool2d(half, 3, 2, 1))
        eighth = self.layer2(quarter)
        sixteenth = self.layer3(eighth)
        return half, quarter, eighth, sixteenth, self.layer4(sixteenth)


def _layer(width_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (BasicBlock(width, width, 1) for _ in range(blocks - 1))
    return nn.Sequential(BasicBlock(width_in, width, stride), *rest)


def load_imagenet(encoder: ResNet34Encoder) -> None:
    """Load the ImageNet weights; colour is summed away in the first kernel.

    Raises
    ------
    RefocusError
        The checkpoint is neither cached nor can be downloaded.
    """
    try:
        state = torch.hub.load_state_dict_from_url(
            IMAGENET_URL, map_location="cpu", check_hash=True, weights_only=True, progress=False
        )
    except Exception as error:  # every way a download fails ends the same for the user
        raise RefocusError(
            f"ImageNet weights could not be fetched from {IMAGENET_URL} ({error}); "
            f"put the file into {torch.hub.get_dir()}/checkpoints, or set 'weights: random'"
        ) from error
    load_torchvision(encoder, state)


def load_torchvision(encoder: ResNet34Encoder, state: dict[str, Tensor]) -> None:
    """Load a torchvision ``resnet34`` state: three input channels become their sum."""
    kept = {name: value for name, value in state.items() if not name.startswith("fc.")}
    kept["conv1.weight"] = kept["conv1.weight"].sum(dim=1, keepdim=True)
    encoder.load_state_dict(kept)
