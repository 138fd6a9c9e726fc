"""What every kind of data set comes to: planes, and a function that refocuses one."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refocus.configs import RefocusError

Plane = NDArray[Any]
Refocus = Callable[[Plane, str], Plane | None]
"""Gives the refocused plane, or None where the engine failed; the text says which plane it is."""


def check_pixels(shape: tuple[int, ...], dtype: Any, where: str) -> None:
    """Refuse what is no monochrome plane of 8 or 16 bits, by a RefocusError that says where."""
    if len(shape) != 2:
        raise RefocusError(
            f"{where}: has shape {tuple(shape)}, but monochrome planes (H, W) are needed; "
            "save each colour as a channel of its own"
        )
    if np.dtype(dtype).newbyteorder("=") not in (np.uint8, np.uint16):
        raise RefocusError(f"{where}: has pixels of {dtype}, but uint8 or uint16 is needed")


def shrink(planes: Plane, shape: tuple[int, ...]) -> Plane:
    """Average planes down to a smaller ``(H, W)``, as the levels of a pyramid are made."""
    smaller = np.zeros((*planes.shape[:-2], *shape), planes.dtype)
    for place in np.ndindex(planes.shape[:-2]):
        image = Image.fromarray(planes[place].astype(np.float32))
        averaged = image.resize((shape[1], shape[0]), Image.Resampling.BOX)
        smaller[place] = np.rint(np.asarray(averaged))
    return smaller
