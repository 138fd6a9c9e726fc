"""A slide as an Aperio scanner writes it: a TIFF of tiles that says so."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

APERIO = "Aperio Image Library v12.0.15\r\n{0}x{1} [0,0 {0}x{1}] (256x256)|AppMag = 20|MPP = {2}"
MPP = 0.499


def colours(height: int, width: int) -> np.ndarray[Any, Any]:
    """Give colours that differ from place to place, and from each other."""
    y, x = np.mgrid[:height, :width]
    return np.stack([(y // 3 + 7 * x) % 251, (5 * y + x) % 241, (y * x // 9) % 239], -1).astype(
        np.uint8
    )


def write_svs(path: Path, height: int = 700, width: int = 900, mpp: float = MPP) -> Path:
    """Write what an Aperio scanner does, with a thumbnail and one smaller level; lossless."""
    full = colours(height, width)
    stated: dict[str, Any] = {"photometric": "rgb", "compression": "lzw", "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        text = APERIO.format(width, height, mpp)
        writer.write(full, tile=(256, 256), description=text, **stated)
        writer.write(full[::8, ::8], description="Aperio Image Library v12.0.15\r\n", **stated)
        writer.write(full[::4, ::4], tile=(256, 256), description=text, **stated)
    return path
