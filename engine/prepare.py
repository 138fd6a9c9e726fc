"""What every engine does around its network: check, normalise, pad, and back."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refocus.engine.protocol import EngineError, Frame, NotFiniteError
from refocus.optics.normalise import Brightness, brightness

SMALLEST = 32
STRIDE = 32
"""Height and width given to a network are multiples of it: enough for every architecture."""

LIMIT = 256.0
"""Largest distance from the offset that a network is shown, in network units.

A hot pixel of a dark frame lies tens of thousands of units up, where FP16 overflows; what is over
the limit goes around the network and is added back.
"""


def check_frame(frame: Frame) -> None:
    """Refuse what is no camera frame.

    Raises
    ------
    EngineError
        It is not ``(H, W)``, not ``uint8`` or ``uint16``, or smaller than 32×32.
    """
    if frame.ndim != 2:
        raise EngineError(
            f"frame of shape {frame.shape}: one channel (H, W) is needed; "
            "set the camera to monochrome"
        )
    if frame.dtype not in (np.uint8, np.uint16):
        raise EngineError(f"frame of {frame.dtype}: uint8 or uint16 is needed")
    if min(frame.shape) < SMALLEST:
        raise EngineError(f"frame of {frame.shape}: {SMALLEST}×{SMALLEST} is the smallest")


def padded_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Round height and width up to multiples of :data:`STRIDE`."""
    height, width = (-(-n // STRIDE) * STRIDE for n in shape)
    return height, width


class Prepared(NamedTuple):
    """A frame as a network is shown it, and the way back.

    Attributes
    ----------
    seen
        ``(H, W)`` network units, height and width multiples of :data:`STRIDE`.
    over
        What lies beyond :data:`LIMIT`, ``(h, w)`` of the frame, or None.
    level
        The frame's brightness.
    shape, dtype
        The frame's.
    """

    seen: NDArray[np.float32]
    over: NDArray[np.float32] | None
    level: Brightness
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def counts(self, refocused: NDArray[np.float32]) -> Frame:
        """Bring what a network made of ``seen`` back to counts.

        Raises
        ------
        NotFiniteError
            The network gave NaN or infinity.
        """
        refocused = refocused[: self.shape[0], : self.shape[1]]
        if self.over is not None:
            refocused = refocused + self.over
        if not np.isfinite(refocused.sum(dtype=np.float64)):
            raise NotFiniteError()
        return self.level.undo(refocused, self.dtype)


def prepare(frame: Frame, told: tuple[float, ...] = ()) -> Prepared:
    """Normalise and pad a frame.

    Parameters
    ----------
    frame
        ``(H, W)``, ``uint8`` or ``uint16``.
    told
        Offset and scale of the plane that it is cut from; empty to measure its own.

    Raises
    ------
    EngineError
        The frame is not one (:func:`check_frame`).
    """
    check_frame(frame)
    level = Brightness(*told) if told else brightness(frame)
    height, width = frame.shape
    tall, wide = padded_shape(frame.shape)
    pixels = level.apply(frame)
    over = _over_limit(pixels)
    seen = pixels if over is None else pixels - over
    if (tall, wide) != (height, width):
        seen = np.pad(seen, ((0, tall - height), (0, wide - width)), mode="reflect")
    return Prepared(seen, over, level, frame.shape, frame.dtype)


def _over_limit(pixels: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Give what lies beyond ±:data:`LIMIT`, or None where nothing does."""
    if pixels.max() <= LIMIT and pixels.min() >= -LIMIT:
        return None
    over: NDArray[np.float32] = pixels - np.clip(pixels, -LIMIT, LIMIT)
    return over


def warm_up_frame(shape: tuple[int, int], dtype: np.dtype[Any]) -> Frame:
    """Make a frame to warm up with: a ramp, so that its brightness can be measured."""
    ramp = np.arange(shape[0] * shape[1], dtype=np.uint32).reshape(shape)
    return (ramp % (np.iinfo(dtype).max // 2)).astype(dtype)
