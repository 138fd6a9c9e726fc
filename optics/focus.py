"""How sharp a frame is."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def tenengrad(frame: NDArray[Any]) -> float:
    """Mean squared gradient over the variance: larger is sharper.

    Divided by the variance so that brightness and exposure do not count (Krotkov, Int. J. Comput.
    Vis. 1:223, 1988; normalised as by Sun et al., Microsc. Res. Tech. 65:139, 2004).

    Parameters
    ----------
    frame
        ``(H, W)``, any real dtype.

    Returns
    -------
    float
        0.0 for a constant frame.
    """
    pixels = np.asarray(frame, dtype=np.float32)
    variance = float(pixels.var())
    if variance == 0.0:
        return 0.0
    gradient = ndimage.sobel(pixels, 0) ** 2 + ndimage.sobel(pixels, 1) ** 2
    return float(gradient.mean()) / variance
