"""Pairs of frames out of and in focus, simulated in batches on whatever device trains.

The truth is the object through the same optics in focus, which is what a microscope shows. A real
image used as a specimen has been through optics already, so it is blurred by the ratio of both
transfer functions, and is its own truth. Everything is drawn from the seed and the step.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from refocus.configs.training import ObjectivesConfig
from refocus.engine.prepare import LIMIT
from refocus.engine.torch.filters import TensorFilters
from refocus.training.pairs.light_paths import GUESSES, WINDOW, LightPaths
from refocus.training.pairs.pool import TILE, SpecimenTiles

REFERENCE_SLOPE = 0.5 / math.sqrt(1 - 0.5**2) / 0.656
"""Pixels of blur per µm at the reference optics."""
SMALL = 0.03
"""Transfer in focus below which a real specimen says nothing of the object."""


class Batch(NamedTuple):
    """Examples.

    Attributes
    ----------
    frame
        ``(N, 4, S, S)``: the frame, and what filters make of it
        (:mod:`refocus.engine.light_path.filters`).
    target
        ``(N, 1, S, S)``, network units.
    focus
        ``(N, 3)``: distance, µm at the reference optics, side and spherical aberration; NaN where
        unknown.
    span
        ``(N,)``, range of the target.
    """

    frame: Tensor
    target: Tensor
    focus: Tensor
    span: Tensor


class Measured(NamedTuple):
    """Measured pairs ``(N, H, W)`` ``float32``, counts."""

    frames: NDArray[np.float32]
    targets: NDArray[np.float32]


class _Light(NamedTuple):
    """Specimens ``(N, S, S)`` imaged through light paths; the truth is computed when asked for."""

    blurred: Tensor
    truth: Callable[[], Tensor]
    blurs: Tensor
    path: Tensor
    sharp: Tensor
    tilted: Tensor


class BatchedPairs:
    """An endless source of batches; batch ``step`` is always the same on one kind of device.

    Parameters
    ----------
    config
        Which light paths.
    paths, specimens
        What is drawn from.
    measured
        Pairs of the instrument, or None.
    foreign
        ``(N, 320, 320)``, frames of phase contrast, to be left alone.
    seed
        Decides everything.
    device
        Of PyTorch.
    """

    def __init__(  # noqa: PLR0917
        self,
        config: ObjectivesConfig,
        paths: LightPaths,
        specimens: SpecimenTiles,
        measured: Measured | None,
        foreign: NDArray[np.float16],
        seed: int,
        device: str = "cpu",
    ) -> None:
        self._device, self._seed = torch.device(device), seed
        self._config, self._right = config, config.exact_fraction + config.near_fraction
        self._random = torch.Generator(self._device)

        def here(part: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(part)).to(self._device)

        self._fields, self._weights = here(specimens.fields), here(specimens.weights)
        self._real = here(specimens.real)
        self._out, self._in = here(paths.out_of_focus), here(paths.in_focus)
        self._tables, self._guesses = here(paths.tables), here(paths.guesses)
        self._measured = None if measured is None else tuple(here(m) for m in measured)
        self._foreign = here(foreign)
        self._filters = TensorFilters(self._device)
        instrument = config.instrument
        wanted = np.array([instrument.sampling, instrument.aperture, 0, instrument.spherical])
        off = (paths.blurs - wanted) / np.array([0.1, 0.1, 1e9, 0.15])
        off[:, 2] = (paths.blurs[:, 2] - instrument.radius_px) / (0.15 * instrument.radius_px)
        self._near = here(np.argsort((off**2).sum(1))[: max(8, len(off) // 100)])

    def batch(self, step: int, number: int, size: int, measured: float, foreign: float) -> Batch:
        """Make the batch of a step.

        Parameters
        ----------
        step, number
            Which one, and how many pairs.
        size
            Side of a pair, pixels.
        measured, foreign
            Fractions of measured pairs, and of phase contrast.
        """
        self._random.manual_seed(self._seed * 1_000_003 + step)
        other = max(1, round(number * foreign)) if foreign else 0
        real = round(number * measured) if self._measured else 0
        window = min(size + 64, WINDOW)
        parts = [self._simulated(number - other - real, window)]
        if other:
            parts.append(self._left_alone(other, window))
        if real:
            parts.append(self._of_instrument(real, window))
        seen, truth, focus, tables = (torch.cat(c) for c in zip(*parts, strict=True))
        frames = self._filters.show(seen, tables)
        top, left = (self._integer(0, window - size + 1) for _ in range(2))
        rows, columns = slice(top, top + size), slice(left, left + size)
        target = truth[:, None, rows, columns]
        ordered = target[:, 0, ::2, ::2].flatten(1).sort(1).values
        last = ordered.shape[1] - 1
        span = ordered[:, int(0.999 * last)] - ordered[:, int(0.001 * last)]
        return Batch(
            frames[:, :, rows, columns].contiguous(), target.contiguous(), focus, span.clamp_min(1)
        )

    def spectra(self, step: int, number: int, side: int) -> tuple[Tensor, Tensor]:
        """Give frames ``(N, side, side)`` in network units, and their light paths ``(N, 4)``."""
        self._random.manual_seed(self._seed * 1_000_003 + step)
        light = self._light(number, side)
        frame, target = self._captured(light.blurred, light.blurred)
        return self._normalised(frame, target, 0.0)[0], light.blurs

    def _simulated(self, number: int, window: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        light = self._light(number, window)
        frame, target = self._captured(light.blurred, light.truth())
        target = torch.where(light.sharp[:, None, None], frame, target)
        seen, target = self._normalised(frame, target, 0.4)
        focus = self._labels(light.blurs)
        focus[light.tilted, 0] *= 0.7
        return seen, target, focus, self._believed(light.path, light.sharp)

    def _light(self, number: int, window: int) -> "_Light":
        """Image specimens through light paths; some are in focus, some tilted."""
        chosen, fields = self._placed(number)
        path = torch.randint(len(self._out), (number,), generator=self._random, device=self._device)
        spectrum = torch.fft.rfft2(fields)
        out, focused = self._out[path].float(), self._in[path].float()
        real = self._real[chosen][:, None, None]
        known = (focused / SMALL).clamp(0, 1)
        out = torch.where(real, known * out / focused.clamp_min(SMALL), out)
        focused = torch.where(real, known, focused)
        sharp = self._uniform(number) < 0.08
        out = torch.where(sharp[:, None, None], focused, out)
        tilted = self._uniform(number) < 0.1
        start = (WINDOW - window) // 2
        cut = slice(start, start + window)

        def imaged(transfer: Tensor) -> Tensor:
            whole: Tensor = torch.fft.irfft2(spectrum * transfer, s=(WINDOW, WINDOW))
            return whole[:, cut, cut]

        blurred = imaged(out)
        if bool(tilted.any()):  # one side of it lies nearer to focus
            share = torch.linspace(0, 0.6, window, device=self._device)[:, None]
            mixed = (1 - share) * blurred[tilted] + share * imaged(focused)[tilted]
            blurred[tilted] = mixed
        blurs = self._guesses[path, 0].clone()
        blurs[sharp, 2] = 0.0
        return _Light(blurred, lambda: imaged(focused), blurs, path, sharp, tilted)

    def _placed(self, number: int) -> tuple[Tensor, Tensor]:
        """Choose specimens, and scale, turn, mirror and now and then invert them."""
        chosen = torch.multinomial(self._weights, number, True, generator=self._random)
        fields = self._fields[chosen].float()[:, None]
        zoom = torch.where(
            self._uniform(number) < 0.5,
            torch.exp(math.log(0.5) + self._uniform(number) * math.log(2.2 / 0.5)),
            1.0,
        )
        turns = torch.randint(0, 4, (number,), generator=self._random, device=self._device)
        angle = turns * (math.pi / 2)
        mirror = torch.where(self._uniform(number) < 0.5, -1.0, 1.0)
        scale = (WINDOW / TILE) / zoom
        room = (1 - scale).clamp_min(0)
        down, right = ((self._uniform(number) * 2 - 1) * room for _ in range(2))
        pixel = 2.0 / TILE
        down, right = (
            torch.where(zoom == 1, torch.round(v / pixel) * pixel, v) for v in (down, right)
        )
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        theta = torch.stack(
            [
                torch.stack([cos * mirror, -sin, right], 1),
                torch.stack([sin * mirror, cos, down], 1),
            ],
            1,
        )
        grid = F.affine_grid(theta, [number, 1, WINDOW, WINDOW], align_corners=False)
        placed = F.grid_sample(
            fields, grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )[:, 0]
        inverted = self._uniform(number)[:, None, None] < 0.03
        return chosen, torch.where(inverted, 1.0 - placed.clamp(0, 1), placed)

    def _captured(self, light: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Expose a camera; give frame and truth, electrons."""
        number, size = len(light), light.shape[-1]
        peak = torch.exp(self._between(number, math.log(60), math.log(20000)))
        back = peak * torch.exp(self._between(number, math.log(0.003), math.log(0.3)))
        coarse = torch.randn(number, 1, 8, 8, generator=self._random, device=self._device)
        haze = F.interpolate(coarse, (size, size), mode="bicubic")[:, 0]
        hazy = (self._uniform(number) < 0.3)[:, None, None]
        back = back + torch.where(hazy, self._between(number, 0, 0.3) * back * haze, 0.0)
        electrons = (light * peak + back).clamp_min(0)
        deviation = torch.sqrt(electrons + self._between(number, 0.5, 6.0) ** 2)
        noise = torch.randn(electrons.shape, generator=self._random, device=self._device)
        frame = electrons + deviation * noise
        extent = electrons.amax((1, 2), True) - electrons.amin((1, 2), True)
        step = (extent / self._between(number, 60, 255)).clamp_min(1e-3)
        eight_bit = (self._uniform(number) < 0.3)[:, None, None]
        frame = torch.where(eight_bit, torch.round(frame / step) * step, frame)
        target = truth * peak + back
        spots = torch.rand(frame.shape, generator=self._random, device=self._device)
        hot = (self._uniform(number) < 0.03)[:, None, None] & (spots < 6 / size**2)
        excess = hot * extent * torch.exp(self._between(number, -0.5, 2.0))
        frame, target = frame + excess, target + excess
        ceiling = frame.amax((1, 2), True) * self._between(number, 0.5, 0.95)
        cut = (self._uniform(number) < 0.03)[:, None, None]
        return torch.where(cut, torch.minimum(frame, ceiling), frame), target

    # --- what a network is shown ------------------------------------------------------------

    def _normalised(self, frame: Tensor, target: Tensor, spread: float) -> tuple[Tensor, Tensor]:
        """Bring a pair to network units; a whole frame's brightness is not that of this window."""
        ordered = frame[:, ::2, ::2].flatten(1).sort(1).values
        last = ordered.shape[1] - 1
        low, top = ordered[:, int(0.02 * last)], ordered[:, int(0.999 * last)]
        flat = top <= low
        low, top = torch.where(flat, ordered[:, 0], low), torch.where(flat, ordered[:, -1], top)
        scale = torch.where(top > low, top - low, 1.0)
        drawn = torch.randn(len(frame), generator=self._random, device=self._device)
        off = torch.where(self._uniform(len(frame)) < 0.3, torch.exp(spread * drawn), 1.0)
        low, scale = low[:, None, None], (scale * off)[:, None, None]
        seen, wanted = (frame - low) / scale, (target - low) / scale
        over = seen - seen.clamp(-LIMIT, LIMIT)
        return seen - over, wanted - over

    def _labels(self, blurs: Tensor) -> Tensor:
        """Describe light paths as the network does: distance, side, aberration never positive."""
        radius, spherical = blurs[:, 2], blurs[:, 3]
        sign = -spherical * radius
        side = torch.where(sign.abs() < 0.02, torch.nan, (sign > 0).float())
        return torch.stack([radius.abs() / REFERENCE_SLOPE, side, -spherical.abs()], 1)

    def _believed(self, path: Tensor, sharp: Tensor) -> Tensor:
        """Choose what is believed of light paths: ``(N, 3, STEPS)``, in focus, first, second."""
        number = len(path)
        drawn, worst = self._uniform(number), self._config.worst
        near = torch.randint(1, 1 + worst, (number,), generator=self._random, device=self._device)
        far = torch.randint(7, 1 + GUESSES, (number,), generator=self._random, device=self._device)
        wrong = self._uniform(number) < 0.5
        # told or pooled; estimated, more or less well; mistaken, with the truth as second choice
        exact, right = self._config.exact_fraction, drawn < self._right
        first = torch.where(drawn < exact, 0, torch.where(right, near, far))
        second = torch.where(right, far, torch.where(wrong, near, 1))
        tables = self._tables[path].float()
        rows = torch.arange(number, device=self._device)
        focused = tables[:, 0]
        first_table = tables[rows, 1 + first]
        first_table = torch.where((sharp & right)[:, None], focused, first_table)
        return torch.stack([focused, first_table, tables[rows, 1 + second]], 1)

    # --- others -----------------------------------------------------------------------------

    def _left_alone(self, number: int, window: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Phase contrast, which no light path here describes."""
        some = torch.randint(
            len(self._foreign), (number,), generator=self._random, device=self._device
        )
        light = self._foreign[some][:, :window, :window].float()
        frame, _ = self._captured(light, light)
        seen, target = self._normalised(frame, frame, 0.4)
        path = torch.randint(len(self._out), (number,), generator=self._random, device=self._device)
        none = torch.zeros(number, dtype=torch.bool, device=self._device)
        focus = torch.full((number, 3), torch.nan, device=self._device)
        return seen, target, focus, self._believed(path, none)

    def _of_instrument(self, number: int, window: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Measured pairs, and light paths that the instrument may have had."""
        assert self._measured is not None
        frames, targets = self._measured
        which = torch.randint(len(frames), (number,), generator=self._random, device=self._device)
        height, width = frames.shape[1:]
        reach = torch.arange(window, device=self._device)
        top = self._integers(number, height - window + 1)[:, None] + reach
        left = self._integers(number, width - window + 1)[:, None] + reach
        at = which[:, None, None], top[:, :, None], left[:, None, :]
        turns = self._integer(0, 4)
        frame, target = (torch.rot90(part[at], turns, (1, 2)) for part in (frames, targets))
        if self._integer(0, 2):
            frame, target = frame.flip(2), target.flip(2)
        seen, target = self._normalised(frame, target, 0.15)
        path = self._near[self._integers(number, len(self._near))]
        none = torch.zeros(number, dtype=torch.bool, device=self._device)
        focus = torch.tensor([torch.nan, 1.0, torch.nan], device=self._device).expand(number, 3)
        return seen, target, focus, self._believed(path, none)

    def _uniform(self, number: int) -> Tensor:
        return torch.rand(number, generator=self._random, device=self._device)

    def _between(self, number: int, low: float, high: float) -> Tensor:
        return (low + (high - low) * self._uniform(number))[:, None, None]

    def _integers(self, number: int, below: int) -> Tensor:
        return torch.randint(below, (number,), generator=self._random, device=self._device)

    def _integer(self, low: int, below: int) -> int:
        return int(torch.randint(low, below, (1,), generator=self._random, device=self._device))
