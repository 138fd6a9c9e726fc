"""Refocusing an OME-Zarr 0.4 or 0.5: all is copied as it stands, and the pixels are replaced."""

import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from refocus.optics.ome_zarr import ZARR_METADATA, find_images, open_array
from refocus.recorded.planes import Refocus, check_pixels, shrink


def count_zarr_planes(source: Path) -> int:
    """Count the planes of all images of an OME-Zarr, at full resolution."""
    return sum(int(np.prod(open_array(i, i.levels[0]).shape[:-2])) for i in find_images(source))


def process_zarr(source: Path, target: Path, name: str, refocus: Refocus) -> None:
    """Copy the whole hierarchy except the images' pixels, then write those refocused.

    ``name`` is what the target will be called in the end: an OME-Zarr does not say it anywhere.
    """
    images = find_images(source)
    for image in images:
        array = open_array(image, image.levels[0])
        check_pixels(array.shape[-2:], array.dtype.numpy_dtype, str(image.levels[0]))
    pixels = {level for image in images for level in image.levels}

    def not_pixels(folder: str, names: list[str]) -> list[str]:
        inside = any(level == Path(folder) or level in Path(folder).parents for level in pixels)
        return [name for name in names if inside and name not in ZARR_METADATA]

    shutil.copytree(source, target, ignore=not_pixels)
    for image in images:
        levels = [target / level.relative_to(source) for level in image.levels]
        for level in levels[1:]:
            level.mkdir(exist_ok=True)
        _refocus_array(
            open_array(image, image.levels[0]),
            [open_array(image, x, write=True) for x in levels],
            refocus,
        )


def _refocus_array(captured: Any, levels: list[Any], refocus: Refocus) -> None:
    """Refocus an array plane by plane, in blocks that fill whole chunks, into every level."""
    for block in _blocks(captured.shape[:-2], levels[0].chunk_layout.write_chunk.shape[:-2]):
        shape = [len(axis) for axis in block] + list(captured.shape[-2:])
        planes = np.zeros(shape, captured.dtype.numpy_dtype)
        for place in product(*(range(len(axis)) for axis in block)):
            index = tuple(axis[i] for axis, i in zip(block, place, strict=True))
            plane = refocus(np.ascontiguousarray(captured[index].read().result()), f"plane {index}")
            if plane is not None:
                planes[place] = plane
        where = tuple(slice(axis[0], axis[-1] + 1) for axis in block)
        levels[0][where].write(planes).result()
        for level in levels[1:]:
            if level.shape[:-2] != captured.shape[:-2]:
                continue  # a level that also bins z cannot be made from one block
            level[where].write(shrink(planes, level.shape[-2:])).result()


def _blocks(shape: tuple[int, ...], chunk: tuple[int, ...]) -> Iterator[tuple[range, ...]]:
    axes = [
        [range(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(shape, chunk, strict=True)
    ]
    yield from product(*axes)
