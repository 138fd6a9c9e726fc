"""What every kind of data set comes to: planes of a kind and size that can be refocused."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refocus.configs import RefocusError
from refocus.optics.images import check_size

Plane = NDArray[Any]


def check_pixels(shape: tuple[int, ...], dtype: Any, where: str) -> None:
    """Refuse what is no plane of 8 or 16 bits, or too large, by a RefocusError."""
    if len(shape) != 2:
        raise RefocusError(
            f"{where}: has shape {tuple(shape)}, but monochrome planes (H, W) are needed; "
            "save each colour as a channel of its own"
        )
    if np.dtype(dtype).newbyteorder("=") not in (np.uint8, np.uint16):
        raise RefocusError(f"{where}: has pixels of {dtype}, but uint8 or uint16 is needed")
    check_size(shape, where)


def shrink(plane: Plane, shape: tuple[int, ...], dtype: Any) -> Plane:
    """Average a plane down to a smaller ``(H, W)``, as the levels of a pyramid are made."""
    image = Image.fromarray(plane.astype(np.float32))
    averaged = image.resize((shape[1], shape[0]), Image.Resampling.BOX)
    found: Plane = np.rint(np.asarray(averaged)).astype(dtype)
    return found
