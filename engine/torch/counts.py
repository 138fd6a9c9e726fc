"""Counts to network units and back, on whatever device holds the frame.

The same arithmetic as :mod:`refocus.optics.normalise`, as tensor operations that never wait for
the device: a CUDA graph can hold all of it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from refocus.engine.prepare import LIMIT, padded_shape
from refocus.engine.protocol import EngineError, Frame
from refocus.optics.normalise import BRIGHT, DARK, ENOUGH

TensorNetwork = Callable[[Tensor], tuple[Tensor, ...]]
"""``(1, C, H, W)`` network units in and, first of what comes, out: FP32, H and W multiples of the
stride."""


class Counted(NamedTuple):
    """A refocused frame in counts, and what its judge asks for; all on the network's device.

    Attributes
    ----------
    counts
        ``(H, W)``, shape and dtype of the captured frame.
    finite
        ``()``, bool: False where the network gave NaN or infinity.
    seen
        ``(H', W')``: the captured frame as the network was shown it.
    outputs
        All that the network gave for it, without the axis of the batch; the first, ``(H', W')``.
    """

    counts: Tensor
    finite: Tensor
    seen: Tensor
    outputs: tuple[Tensor, ...]


def as_tensor(frame: Frame) -> Tensor:
    """Share a frame's memory with a tensor; ``uint16`` is carried as the ``int16`` of its bits."""
    pixels = np.ascontiguousarray(frame)
    return torch.from_numpy(pixels.view(np.int16) if pixels.dtype == np.uint16 else pixels)


def as_frame(counts: Tensor) -> Frame:
    """Undo :func:`as_tensor`."""
    pixels = counts.numpy()
    return pixels.view(np.uint16) if pixels.dtype == np.int16 else pixels


def refocus_counts(
    raw: Tensor, network: TensorNetwork, show: Callable[[Tensor], Tensor] | None = None
) -> Counted:
    """Normalise, pad, run the network, and go back to counts.

    Parameters
    ----------
    raw
        ``(H, W)``, ``uint8``, or ``int16`` that carries ``uint16``.
    network
        Works on the device of ``raw``.
    show
        Turns ``(1, H, W)`` into the ``(1, C, H, W)`` that the network is shown; None for the frame
        alone.

    Raises
    ------
    EngineError
        The network gives something else than one frame of the size that it was shown.
    """
    wide = raw.dtype == torch.int16
    whole = raw.to(torch.int32)
    if wide:
        whole = whole & 0xFFFF
    offset, scale = _brightness(whole)
    pixels = (whole.to(torch.float32) - offset) * (1.0 / scale)
    seen = pixels.clamp(-LIMIT, LIMIT)
    height, width = raw.shape
    tall, broad = padded_shape(raw.shape)
    batch = seen[None, None]
    if (tall, broad) != (height, width):
        batch = F.pad(batch, (0, broad - width, 0, tall - height), mode="reflect")
    first, *others = network(batch if show is None else show(batch[0]))
    if first.shape != batch.shape:
        raise EngineError(
            f"the network makes {list(first.shape)} of a frame of {tall}×{broad}; export it again"
        )
    refocused = first[0, 0, :height, :width] + (pixels - seen)
    finite = torch.isfinite(refocused).all()
    counts = torch.round(refocused * scale + offset).nan_to_num_(0.0)
    counts = counts.clamp(0, 0xFFFF if wide else 0xFF).to(torch.int32)
    if wide:  # back to the int16 of the same bits, without relying on how a cast overflows
        counts = torch.where(counts > 0x7FFF, counts - 0x10000, counts)
    outputs = first[0, 0], *(part[0] for part in others)
    return Counted(counts.to(raw.dtype), finite, batch[0, 0], outputs)


def _brightness(whole: Tensor) -> tuple[Tensor, Tensor]:
    """Measure offset and scale as :func:`refocus.optics.normalise.brightness` does."""
    stride = max(1, int(np.sqrt(whole.numel() / ENOUGH)))
    ordered = whole[::stride, ::stride].reshape(-1).sort().values.to(torch.float32)
    last = ordered.numel() - 1
    offset, top = ordered[int(DARK * last)], ordered[int(BRIGHT * last)]
    flat = top <= offset
    offset = torch.where(flat, ordered[0], offset)
    top = torch.where(flat, ordered[last], top)
    return offset, torch.where(top > offset, top - offset, torch.ones_like(top))
