"""Reading image files: one plane, one channel, the camera's own integers."""

import warnings
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from refocus.configs import RefocusError, reason_of
from refocus.optics.paths import leads_inside, natural

SUFFIXES = (".tif", ".tiff", ".png")

LARGEST_PIXELS = 1 << 28
"""Of a plane: 16,384 × 16,384. A small file may ask for far more than any camera has."""


def list_images(folder: Path) -> list[Path]:
    """Name the images of a folder as people count: t1, t2, t10. Hidden files are passed over.

    Raises
    ------
    RefocusError
        The folder does not exist or holds no image, or one is a link that leads out of it.
    """
    if not folder.is_dir():
        raise RefocusError(f"{folder}: no such folder; give one that holds .tif or .png images")
    found = sorted(
        # macOS lays a ._NAME.tif beside each file, which is no image
        (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."),
        key=natural,
    )
    if not found:
        raise RefocusError(f"{folder}: holds no image; expected .tif, .tiff or .png files")
    for path in found:
        if path.is_symlink() and not leads_inside(folder, path):
            raise RefocusError(
                f"{path}: is a link that leads out of {folder}; put a copy in its place"
            )
    return found


def check_size(shape: tuple[int, ...], where: str) -> None:
    """Refuse a plane ``(H, W)`` that is empty, or larger than ``LARGEST_PIXELS``.

    Raises
    ------
    RefocusError
        The message begins with ``where``.
    """
    if (count := prod(shape)) > LARGEST_PIXELS:
        raise RefocusError(
            f"{where}: asks for {count:.3g} pixels, over the {LARGEST_PIXELS:.3g} that are read; "
            "cut it into tiles"
        )
    if not count:
        raise RefocusError(f"{where}: holds no pixels; remove it")


def _open_png(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # check_size is stricter
        return Image.open(path)


def _read_tiff(path: Path) -> NDArray[Any]:
    # only what is in this file: an OME-XML may name others, anywhere
    with tifffile.TiffFile(path, is_ome=False, is_mmstack=False, is_ndtiff=False) as tiff:
        for page in tiff.pages:
            check_size(page.shape[:2], str(path))
        first = tiff.pages[0].aspage()
        if first.is_tiled:
            check_size((first.tilelength, first.tilewidth), f"{path}, a tile")
        return light_is_bright(tiff.asarray(), first)


def light_is_bright(pixels: NDArray[Any], page: Any) -> NDArray[Any]:
    """Turn counts round where the page of a TIFF that they are from says that 0 is white."""
    inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    return np.invert(pixels) if inverted and pixels.dtype.kind == "u" else pixels


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
            with _open_png(path) as picture:
                check_size(picture.size, str(path))
                if picture.mode == "P":
                    raise RefocusError(
                        f"{path}: has a colour palette, but a monochrome image is needed; "
                        "save the camera's own grey values"
                    )
                pixels = np.asarray(picture)
            if pixels.dtype == np.int32:  # how older Pillow reads 16-bit grey
                pixels = pixels.astype(np.uint16)
        else:
            pixels = _read_tiff(path)
        if pixels.size == 0:
            raise ValueError("it holds no pixels")
    except RefocusError:
        raise
    except FileNotFoundError as error:
        raise RefocusError(f"{path}: no such file") from error
    except Exception as error:  # decoders raise whatever they like on a broken file
        raise RefocusError(
            f"{path}: not a readable image ({reason_of(error)}); remove or replace it"
        ) from error
    if pixels.ndim != 2:
        raise RefocusError(
            f"{path}: has shape {pixels.shape}, but a monochrome image (H, W) is needed; "
            "save each channel as its own file"
        )
    if pixels.dtype not in (np.uint8, np.uint16):
        raise RefocusError(f"{path}: has pixels of {pixels.dtype}, but uint8 or uint16 is needed")
    return np.ascontiguousarray(pixels)
