"""The filters of :mod:`refocus.engine.light_path.filters` as tensor operations.

They never wait for the device, so that a CUDA graph can hold them. There is no cosine transform in
PyTorch: the frame and its mirror images are transformed instead, which is the same.
"""

import torch
from torch import Tensor
from torch.nn import functional

from refocus.engine.light_path.filters import (
    ABOVE_SEEN,
    BLOCK,
    FLOORS,
    LARGEST,
    NOISE_SHARE,
    RISES,
    SPECTRUM,
)
from refocus.optics.transfer import HIGHEST, STEPS


class TensorFilters:
    """Filters frames on one device; what does not depend on a frame is kept per size."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spectrum = torch.from_numpy(SPECTRUM).float().to(device)
        self._grids: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def show(self, seen: Tensor, tables: Tensor) -> Tensor:
        """Put what filters make of frames beside them.

        Parameters
        ----------
        seen
            ``(N, H, W)``, network units.
        tables
            ``(N, 3, STEPS)``: transfer functions in focus, at the likeliest light path, and at the
            next.

        Returns
        -------
        Tensor
            ``(N, 4, H, W)``.
        """
        height, width = seen.shape[1:]
        share = _noise_share(seen)
        top = ABOVE_SEEN * functional.avg_pool2d(seen, BLOCK).amax((1, 2), keepdim=True)
        top = top.clamp_min(LARGEST)
        mirrored = torch.cat([seen, seen.flip(2)], 2)
        spectrum = torch.fft.rfft2(torch.cat([mirrored, mirrored.flip(1)], 1))
        left, part = self._grid(height, width)
        shown = [seen]
        for number, of in enumerate((1, 1, 2)):
            assumed = (FLOORS[number] + RISES[number] * NOISE_SHARE * share)[:, None]
            out_of_focus = tables[:, of]
            gain = tables[:, 0] * out_of_focus / (out_of_focus**2 + assumed / self._spectrum)
            grid = gain[:, left] * (1 - part) + gain[:, left + 1] * part
            found = torch.fft.irfft2(spectrum * grid, s=(2 * height, 2 * width))
            shown.append(torch.minimum(found[:, :height, :width].clamp_min(-LARGEST), top))
        return torch.stack(shown, 1)

    def _grid(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        if (height, width) not in self._grids:
            fy = torch.fft.fftfreq(2 * height, device=self._device)[:, None]
            fx = torch.fft.rfftfreq(2 * width, device=self._device)[None]
            where = torch.hypot(fy, fx) * ((STEPS - 1) / HIGHEST)
            where = where.clamp(max=STEPS - 1.001)
            self._grids[height, width] = where.long(), where - where.floor()
        return self._grids[height, width]


def _noise_share(seen: Tensor) -> Tensor:
    """Variance of the camera's noise over that of each frame, ``(N,)``."""
    rows = seen[:, :-1:2] - seen[:, 1::2]
    odd = rows[..., :-1:2] - rows[..., 1::2]
    noise = odd[:, ::2, ::2].abs().flatten(1).median(1).values / (2 * 0.6745)
    variance = seen[:, ::2, ::2].flatten(1).var(1, correction=0)
    return (noise**2 / variance.clamp_min(1e-12)).clamp(max=10.0)
