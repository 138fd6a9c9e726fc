"""Two U-Nets that undo defocus: ``compact`` for any machine, ``resnet34`` for the best picture.

Both follow the U-Net figure (Ronneberger et al., MICCAI 2015): down an encoder, across, up a
decoder. Both say, in the same pass, how far from focus they take each tile to be and how large
they expect the error of each pixel to be, and both give the captured pixels plus a correction, so
that the sum stays in full precision.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refocus.engine.light_path.filters import CHANNELS
from refocus.training.network.resnet import ResNet34Encoder

MAX_DISTANCE_UM = 40.0
MAX_SPHERICAL = 1.2
"""Waves."""


class Refocused(NamedTuple):
    """What a network says of a batch of normalised frames ``(N, 1, H, W)``.

    Attributes
    ----------
    pixels
        ``(N, 1, H, W)``, refocused, in the units of the input.
    focus
        ``(N, 4, H/s, W/s)``: distance from focus, µm at the card's optics, and its standard
        deviation; how likely it is to be on the positive side; spherical aberration, waves, which
        is never positive (:func:`refocus.training.pairs.simulate.side_of_focus`).
    error
        ``(N, 1, H/2, W/2)``: scale (Laplace) of the error expected of the pixels.
    features
        ``(N, C, H/s, W/s)``: what the encoder makes of each tile, to tell the familiar by.
    """

    pixels: Tensor
    focus: Tensor
    error: Tensor
    features: Tensor


class UNet(Protocol):
    """What both networks are to the rest."""

    inputs: int
    """Channels that it is shown: 1, or as :mod:`refocus.engine.light_path.filters` makes them."""
    stride: int
    """Height and width must be multiples of it."""

    def __call__(self, frames: Tensor, known: Tensor | None = None) -> Refocused:
        """Refocus ``(N, 1, H, W)``.

        ``known`` ``(N, 3)``: distance, µm, side (1 or 0) and spherical aberration, waves, where
        they are known, or NaN.
        """
        ...


def convolve(width_in: int, width: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Make a convolution with batch norm, which folds into it on export."""
    convolution = nn.Conv2d(width_in, width, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(width))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, which counts for most at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = convolve(width, width)
        self.second = convolve(width, width)
        norm = self.second[1]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.constant_(norm.weight, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        return F.relu(x + self.second(F.relu(self.first(x))))


class Upsample(nn.Module):
    """Double height and width by PixelShuffle, starting as nearest-neighbour.

    Started by ICNR (Aitken et al., arXiv 1707.02937), so that there is no checkerboard.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width_in, width_out * 4, 1)
        kernel = torch.empty(width_out, width_in, 1, 1)
        nn.init.kaiming_normal_(kernel)
        with torch.no_grad():
            self.spread.weight.copy_(kernel.repeat_interleave(4, dim=0))
            assert self.spread.bias is not None
            nn.init.zeros_(self.spread.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C', 2H, 2W)``."""
        return F.pixel_shuffle(self.spread(x), 2)


class FocusHead(nn.Module):
    """Estimates the light path per tile, and puts it in words for the decoder.

    Estimating the blur and undoing it are two things: the decoder is given the distance as
    Gaussian bumps along the axis, on either side of focus as far as that side is likely, and the
    spherical aberration as bumps, too. In half of training these are the truth, and the estimate
    otherwise, so that a light path that is known can be stated. What is told
    of a tile is the estimates around it, weighted by how sure they are: light paths change slowly
    across a field, and a tile with little to see knows little.
    """

    around = 7
    distances, aberrations = 12, 5
    bumps = 2 * distances + aberrations

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = convolve(width, 64)
        self.estimate = nn.Conv2d(64, 4, 1)
        self.distance_um: Tensor
        self.spherical: Tensor
        centres = torch.linspace(0, 36, self.distances).view(1, -1, 1, 1)
        self.register_buffer("distance_um", centres, False)
        centres = torch.linspace(-1, 0, self.aberrations).view(1, -1, 1, 1)
        self.register_buffer("spherical", centres, False)

    def forward(self, x: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
        """Give the bumps ``(N, 29, H, W)``, and the estimate as in :class:`Refocused`."""
        raw = self.estimate(F.relu(self.hidden(x))).float()  # bf16 has two digits
        distance = MAX_DISTANCE_UM * torch.sigmoid(raw[:, :1] - 1.5)
        sigma = 0.2 + 10 * torch.sigmoid(raw[:, 1:2] - 1.5)
        side = torch.sigmoid(raw[:, 2:3])
        spherical = -MAX_SPHERICAL * torch.sigmoid(raw[:, 3:])
        told = self._pooled(torch.cat([distance, side, spherical], 1), sigma).detach()
        if known is not None:  # NaN: not known
            given = known.to(told.dtype).view(-1, 3, 1, 1).expand_as(told)
            told = torch.where(torch.isnan(given), told, given)
        far, side_told, aberration = told[:, :1], told[:, 1:2], told[:, 2:]
        bumps = torch.exp(-(((far - self.distance_um) / 3.5) ** 2))
        rings = torch.exp(-(((aberration - self.spherical) / 0.25) ** 2))
        words = torch.cat([side_told * bumps, (1 - side_told) * bumps, rings], 1)
        return words, torch.cat([distance, sigma, side, spherical], 1)

    def _pooled(self, estimates: Tensor, sigma: Tensor) -> Tensor:
        """Average over neighbouring tiles by inverse variance."""
        weight = sigma**-2

        def mean(x: Tensor) -> Tensor:
            return F.avg_pool2d(x, self.around, 1, self.around // 2)

        return mean(estimates * weight) / mean(weight)


class Told(nn.Module):
    """Shifts features by what the light path asks for, at any level of a decoder."""

    def __init__(self, width: int, scale: int = 1) -> None:
        super().__init__()
        self.scale = float(scale)
        self.shift = nn.Conv2d(FocusHead.bumps, width, 1)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, bumps: Tensor) -> Tensor:
        """Keep the shape of ``x``, which is ``scale`` times that of the bumps."""
        shift: Tensor = self.shift(bumps)
        if self.scale > 1:
            shift = F.interpolate(shift, scale_factor=self.scale, mode="nearest")
        return x + shift


class OutputHead(nn.Module):
    """Correction of the pixels, and the error expected, from features at half size.

    Of every filter that is shown beside the frame, each pixel takes a part first: where physics is
    told the light path there is little left to correct.
    """

    def __init__(self, width: int, filters: int = 0) -> None:
        super().__init__()
        self.correction = nn.Conv2d(width, 4, 3, padding=1)
        self.error = nn.Conv2d(width, 1, 3, padding=1)
        heads = [(self.correction, 0.0), (self.error, -4.0)]
        if filters:
            self.parts = nn.Conv2d(width, 4 * filters, 3, padding=1)
            heads.append((self.parts, -2.0))
        for head, start in heads:
            assert head.bias is not None
            nn.init.zeros_(head.weight)
            nn.init.constant_(head.bias, start)

    def forward(self, frames: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Give the refocused pixels and the scale of their error."""
        captured = frames[:, :1]
        pixels = captured + F.pixel_shuffle(self.correction(features), 2)
        if frames.shape[1] > 1:
            parts = torch.sigmoid(F.pixel_shuffle(self.parts(features), 2))
            for k in range(parts.shape[1]):
                shown = frames[:, k + 1 : k + 2]
                pixels = pixels + parts[:, k : k + 1] * (shown - captured)
        # detached: learning how wrong it is must not change what it draws
        error = torch.exp(self.error(features.detach()).float().clamp(-6.0, 3.0))
        return pixels, error


class CompactUNet(nn.Module):
    """A U-Net of about a million parameters that starts at half size (space to depth).

    Out-of-focus frames hold little in their finest octave, so most of the work is done where it
    is four times cheaper and sees twice as far.
    """

    stride = 16

    def __init__(self, widths: tuple[int, ...] = (24, 48, 80, 112), inputs: int = 1) -> None:
        super().__init__()
        self.inputs = inputs
        self.stem = convolve(4 * inputs, widths[0])
        self.encode = nn.ModuleList(ResidualBlock(w) for w in widths[:-1])
        self.down = nn.ModuleList(convolve(a, b, stride=2) for a, b in pairwise(widths))
        self.bottom = nn.Sequential(ResidualBlock(widths[-1]), ResidualBlock(widths[-1]))
        self.focus = FocusHead(widths[-1])
        self.told = Told(widths[-1])
        upward = widths[::-1]
        self.up = nn.ModuleList(Upsample(a, b) for a, b in pairwise(upward))
        self.merge = nn.ModuleList(convolve(2 * w, w, size=1) for w in upward[1:])
        self.tell = nn.ModuleList(Told(w, 2**i) for i, w in enumerate(upward[1:], 1))
        self.decode = nn.ModuleList(ResidualBlock(w) for w in upward[1:])
        self.output = OutputHead(widths[0], inputs - 1)

    def forward(self, frames: Tensor, known: Tensor | None = None) -> Refocused:
        """Down, across, up; ``frames`` ``(N, inputs, H, W)``, H and W multiples of ``stride``."""
        x = F.relu(self.stem(F.pixel_unshuffle(frames, 2)))
        across = []
        for encode, down in zip(self.encode, self.down, strict=True):
            x = encode(x)
            across.append(x)
            x = F.relu(down(x))
        features = self.bottom(x)
        bumps, focus = self.focus(features, known)
        x = self.told(features, bumps)
        for up, merge, tell, decode in zip(
            self.up, self.merge, self.tell, self.decode, strict=True
        ):
            x = decode(F.relu(tell(merge(torch.cat([up(x), across.pop()], 1)), bumps)))
        pixels, error = self.output(frames, x)
        return Refocused(pixels, focus, error, features)


class DecoderBlock(nn.Module):
    """Up by two, join what came across, two convolutions."""

    def __init__(self, width_in: int, width_across: int, width_out: int) -> None:
        super().__init__()
        self.up = Upsample(width_in, width_in // 2)
        self.across_norm = nn.BatchNorm2d(width_across)
        self.first = nn.Conv2d(width_in // 2 + width_across, width_out, 3, padding=1)
        self.second = nn.Conv2d(width_out, width_out, 3, padding=1)

    def forward(self, x: Tensor, across: Tensor) -> Tensor:
        """Join ``(N, C, H, W)`` with ``(N, C', 2H, 2W)``."""
        joined = torch.cat([self.up(x), self.across_norm(across)], 1)
        return F.relu(self.second(F.relu(self.first(F.relu(joined)))))


class ResNet34UNet(nn.Module):
    """A U-Net whose encoder is a ResNet-34, as published with ImageNet weights."""

    stride = 32
    inputs = 1

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResNet34Encoder()
        self.focus = FocusHead(512)
        self.told = Told(512)
        self.decode = nn.ModuleList(
            DecoderBlock(*widths)
            for widths in ((512, 256, 256), (256, 128, 128), (128, 64, 96), (96, 64, 64))
        )
        self.output = OutputHead(64)

    def forward(self, frames: Tensor, known: Tensor | None = None) -> Refocused:
        """Down, across, up; ``frames`` ``(N, 1, H, W)``, H and W multiples of ``stride``."""
        *across, deepest = self.encoder(frames)
        bumps, focus = self.focus(deepest, known)
        x = self.told(deepest, bumps)
        for decode in self.decode:
            x = decode(x, across.pop())
        pixels, error = self.output(frames, x)
        return Refocused(pixels, focus, error, deepest)


def widened(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Let weights of a network that sees the frame alone start one that sees filters beside it."""
    inputs = getattr(network, "inputs", 1)
    stem = state.get("stem.0.weight")
    if inputs == 1 or stem is None:
        return state
    own = network.state_dict()
    if stem.shape[1] == 4:
        wider = stem.new_zeros(stem.shape[0], 4 * inputs, *stem.shape[2:])
        wider[:, :4] = stem
        state = {**state, "stem.0.weight": wider}
    return {**{name: own[name] for name in own if ".parts." in name}, **state}


ARCHITECTURES: dict[str, Callable[[], CompactUNet | ResNet34UNet]] = {
    "compact": CompactUNet,
    "compact-told": partial(CompactUNet, inputs=CHANNELS),
    "resnet34": ResNet34UNet,
}
