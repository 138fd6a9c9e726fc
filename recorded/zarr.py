"""An OME-Zarr 0.4 or 0.5: all is copied as it stands, and the pixels are replaced."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from refocus.configs import RefocusError
from refocus.configs.light_path import UNKNOWN, LightPath
from refocus.optics.ome_xml import zarr_light_paths
from refocus.optics.ome_zarr import (
    ZARR_METADATA,
    ZarrImage,
    channel_name,
    channel_of,
    find_images,
    open_array,
    pixel_size_um,
    read_document,
)
from refocus.recorded.data_set import DataSet, Marks
from refocus.recorded.planes import About, Bands, Plane, RecordedPlane, check_piece, check_pixels
from refocus.recorded.zarr_writer import write_image

KEPT = 1 << 28
"""Bytes of decoded chunks that are kept while their neighbours are read."""


@dataclass(frozen=True)
class _Image:
    """An image, its first level open, and the number of its first plane."""

    image: ZarrImage
    array: Any
    begins: int


class Zarr(DataSet):
    """An OME-Zarr: all images of it.

    Parameters
    ----------
    source
        Its folder.

    Raises
    ------
    RefocusError
        It is not readable, lacks a level, or holds pixels of the wrong kind.
    """

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self._images: list[_Image] = []
        stated = zarr_light_paths(source)
        for image in find_images(source):
            array = open_array(image, image.levels[0], kept=KEPT)
            for level in image.levels:
                found = open_array(image, level)
                check_pixels(found.shape[-2:], found.dtype.numpy_dtype, str(level))
                chunk = found.chunk_layout.read_chunk.shape
                check_piece(chunk, found.dtype.numpy_dtype, f"{level}: one chunk")
            self._images.append(_Image(image, array, len(self.planes)))
            self.planes += _planes(image, array, _of_channels(image, stated))

    def write(self, target: Path, name: str, bands: Bands, marks: Marks) -> None:
        """Copy the whole hierarchy except the images' pixels, then write those refocused.

        ``name`` is what the target will be called in the end: an OME-Zarr does not say it anywhere.
        """
        pixels = {level for one in self._images for level in one.image.levels}

        def not_pixels(folder: str, names: list[str]) -> list[str]:
            inside = any(level == Path(folder) or level in Path(folder).parents for level in pixels)
            return [name for name in names if inside and name not in ZARR_METADATA]

        shutil.copytree(self.source, target, ignore=not_pixels)
        for one in self._images:
            levels = [target / level.relative_to(self.source) for level in one.image.levels]
            arrays = [open_array(one.image, level, write=True) for level in levels]
            count = prod(one.array.shape[:-2])
            numbers = np.arange(one.begins, one.begins + count).reshape(one.array.shape[:-2])
            write_image(arrays, numbers, bands, target.with_name(f"{target.name}.rows"))
            group = target / one.image.group.relative_to(self.source)
            _note(target, group, marks.provenance(range(one.begins, one.begins + count)))


def _planes(
    image: ZarrImage, array: Any, light_paths: tuple[LightPath, ...]
) -> Iterator[RecordedPlane]:
    dtype = array.dtype.numpy_dtype.newbyteorder("=")
    height, width = array.shape[-2:]
    for index in product(*(range(n) for n in array.shape[:-2])):
        about = About(
            f"{image.group.name}, plane {index}",
            index,
            light_path=light_paths[min(channel_of(image, index), len(light_paths) - 1)],
            channel=channel_name(image, index),
            position=str(image.group),
        )
        where = f"{image.levels[0]}, plane {index}"
        yield RecordedPlane(
            about, (height, width), dtype, partial(_read, array, index, dtype, where)
        )


def _read(  # noqa: PLR0917
    array: Any, index: tuple[int, ...], dtype: Any, where: str, rows: slice, columns: slice
) -> Plane:
    try:
        pixels = array[(*index, rows, columns)].read().result()
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0][:160]
        raise RefocusError(f"{where}: not readable: {reason}") from error
    return np.ascontiguousarray(pixels, dtype=dtype)


def _of_channels(
    image: ZarrImage, stated: Sequence[tuple[LightPath, ...]]
) -> tuple[LightPath, ...]:
    """Give the light path of each channel; images of a converted file are numbered as in it."""
    name, size_um = image.group.name, pixel_size_um(image)
    number = int(name) if name.isdecimal() else 0
    of_file = stated[number] if number < len(stated) else (UNKNOWN,)
    return tuple(replace(path, pixel_size_um=size_um) for path in of_file)


def _note(root: Path, group: Path, provenance: dict[str, Any]) -> None:
    """Write provenance into the attributes of an image, and, without its planes, of the root."""
    _write_attribute(group, provenance)
    if group != root:
        _write_attribute(root, {key: v for key, v in provenance.items() if key != "planes"})


def _write_attribute(group: Path, value: dict[str, Any]) -> None:
    path = group / "zarr.json"
    if not path.exists():
        path = group / ".zattrs"
    document = read_document(path) if path.exists() else {}
    modern = path.name == "zarr.json"
    attributes = document.setdefault("attributes", {}) if modern else document
    earlier = attributes.get("refocus")
    if earlier and "planes" in value:  # the source was refocused itself
        value = {**value, "before": earlier}
    attributes["refocus"] = value
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    merged = group / ".zmetadata"
    if merged.exists() and not modern:
        document = read_document(merged)
        document.setdefault("metadata", {}).setdefault(".zattrs", {})["refocus"] = value
        merged.write_text(json.dumps(document, indent=2), encoding="utf-8")
