"""Reading image files: one plane, one channel, the camera's own integers."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from refocus.configs import RefocusError

SUFFIXES = (".tif", ".tiff", ".png")


def list_images(folder: Path) -> list[Path]:
    """Name the images of a folder, in lexicographic order.

    Raises
    ------
    RefocusError
        The folder does not exist, or holds no image.
    """
    if not folder.is_dir():
        raise RefocusError(f"{folder}: no such folder; give one that holds .tif or .png images")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise RefocusError(f"{folder}: holds no image; expected .tif, .tiff or .png files")
    return found


def read_image(path: Path) -> NDArray[Any]:
    """Read one monochrome image.

    Returns
    -------
    ndarray
        ``(H, W)``, ``uint8`` or ``uint16``, as stored.

    Raises
    ------
    RefocusError
        The file cannot be read, has several planes or colours, or another dtype.
    """
    try:
        if path.suffix.lower() == ".png":
            with Image.open(path) as picture:
                if picture.mode == "P":
                    raise RefocusError(
                        f"{path}: has a colour palette, but a monochrome image is needed; "
                        "save the camera's own grey values"
                    )
                pixels = np.asarray(picture)
            if pixels.dtype == np.int32:  # how older Pillow reads 16-bit grey
                pixels = pixels.astype(np.uint16)
        else:
            pixels = tifffile.imread(path)
        if pixels.size == 0:
            raise ValueError("it holds no pixels")
    except RefocusError:
        raise
    except FileNotFoundError as error:
        raise RefocusError(f"{path}: no such file") from error
    except Exception as error:  # decoders raise whatever they like on a broken file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RefocusError(
            f"{path}: not a readable image ({reason}); remove or replace it"
        ) from error
    if pixels.ndim != 2:
        raise RefocusError(
            f"{path}: has shape {pixels.shape}, but a monochrome image (H, W) is needed; "
            "save each channel as its own file"
        )
    if pixels.dtype not in (np.uint8, np.uint16):
        raise RefocusError(f"{path}: has pixels of {pixels.dtype}, but uint8 or uint16 is needed")
    return np.ascontiguousarray(pixels)
