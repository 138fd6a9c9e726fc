"""Refocusing an OME-Zarr 0.4 or 0.5: all is copied as it stands, and the pixels are replaced."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
    axis_um,
    channel_name,
    channel_of,
    find_images,
    open_array,
    pixel_size_um,
    read_document,
)
from refocus.recorded.planes import check_pixels, shrink
from refocus.recorded.plate import read_plate
from refocus.recorded.refocusing import About, Refocusing, log

LARGEST_BLOCK = 1 << 30
"""Bytes of the planes that are held until they fill a chunk."""


def count_zarr_planes(source: Path) -> int:
    """Count the planes of all images of an OME-Zarr, at full resolution."""
    kinds = _alike(find_images(source))
    return sum(prod(open_array(i[0], i[0].levels[0]).shape[:-2]) * len(i) for i in kinds)


def process_zarr(source: Path, target: Path, name: str, work: Refocusing) -> None:
    """Copy the whole hierarchy except the images' pixels, then write those refocused.

    ``name`` is what the target will be called in the end: an OME-Zarr does not say it anywhere.
    """
    images = find_images(source)
    work.table.root, work.table.plate = source, (plate := read_plate(source))
    if plate is not None and (lacking := plate.lacking()):
        log.warning("%s: %s; the rest is done", source, lacking)
    for image, *_ in _alike(images):
        array = open_array(image, image.levels[0])
        check_pixels(array.shape[-2:], array.dtype.numpy_dtype, str(image.levels[0]))
        _check_chunk(array, image.levels[0])
    pixels = {level for image in images for level in image.levels}

    def not_pixels(folder: str, names: list[str]) -> list[str]:
        inside = not pixels.isdisjoint((Path(folder), *Path(folder).parents))
        return [name for name in names if inside and name not in ZARR_METADATA]

    shutil.copytree(source, target, ignore=not_pixels)
    stated = zarr_light_paths(source)
    for image in images:
        levels = [target / level.relative_to(source) for level in image.levels]
        for level in levels:
            level.mkdir(parents=True, exist_ok=True)
        arrays = [open_array(image, level, write=True) for level in levels]
        of_channels = _of_channels(image, stated)
        _refocus_array(image, open_array(image, image.levels[0]), arrays[0], work, of_channels)
        for smaller in arrays[1:]:
            _bin(arrays[0], smaller)
        group = target / image.group.relative_to(source)
        made = work.provenance()
        _write_attribute(group, made)
    if group != target:  # once: the root of a plate names each of its wells
        _write_attribute(target, {key: v for key, v in made.items() if key != "planes"})


def _alike(images: Sequence[ZarrImage]) -> list[list[ZarrImage]]:
    """Group images whose arrays say the same of themselves, as the fields of a plate do."""
    found: dict[tuple[object, ...], list[ZarrImage]] = {}
    for image in images:
        texts = (image.levels[0] / name for name in ("zarr.json", ".zarray"))
        said = next((text.read_bytes() for text in texts if text.is_file()), b"")
        found.setdefault((said, image.order), []).append(image)
    return list(found.values())


def _of_channels(
    image: ZarrImage, stated: Sequence[tuple[LightPath, ...]]
) -> tuple[LightPath, ...]:
    """Give the light path of each channel; images of a converted file are numbered as in it."""
    name, size_um = image.group.name, pixel_size_um(image)
    number = int(name) if name.isdecimal() else 0
    of_file = stated[number] if number < len(stated) else (UNKNOWN,)
    return tuple(replace(path, pixel_size_um=size_um) for path in of_file)


def _check_chunk(array: Any, where: Path) -> None:
    chunk = prod(array.chunk_layout.read_chunk.shape) * array.dtype.numpy_dtype.itemsize
    if chunk > LARGEST_BLOCK:
        raise RefocusError(
            f"{where}: one chunk asks for {chunk / 1e9:.1f} GB, over the "
            f"{LARGEST_BLOCK / 1e9:.1f} that are read; write it in smaller chunks"
        )


def _refocus_array(
    image: ZarrImage,
    captured: Any,
    refocused: Any,
    work: Refocusing,
    light_paths: tuple[LightPath, ...],
) -> None:
    """Refocus an array plane by plane, in blocks that fill whole chunks."""
    names = [image.axes[axis] for axis in image.order[:-2]]
    root = work.table.root or image.group
    group = image.group.name if image.group == root else str(image.group.relative_to(root))
    step_um = axis_um(image, image.axes.index("z")) if "z" in names else 0.0
    in_stack = dict(zip(names, captured.shape[:-2], strict=True)).get("z", 1) > 1
    for block in _blocks(refocused):
        shape = [len(axis) for axis in block] + list(captured.shape[-2:])
        planes = np.zeros(shape, captured.dtype.numpy_dtype.newbyteorder("="))
        for place in product(*(range(len(axis)) for axis in block)):
            index = tuple(axis[i] for axis, i in zip(block, place, strict=True))
            axes = dict(zip(names, index, strict=True))
            about = About(
                f"{group}, plane {index}",
                index,
                light_path=light_paths[min(channel_of(image, index), len(light_paths) - 1)],
                channel=channel_name(image, index),
                position=str(image.group),
                image=image.group,
                axes=axes,
                in_stack=in_stack,
                z_um=axes["z"] * step_um if in_stack and step_um else None,
            )
            try:
                pixels = captured[index].read().result()
            except (ValueError, OSError) as error:
                reason = str(error).splitlines()[0][:160]
                damaged = RefocusError(f"{image.levels[0]}, plane {index}: not readable: {reason}")
                work.leave_out(about, damaged)
                continue
            native = np.ascontiguousarray(pixels, dtype=planes.dtype)
            if (plane := work.refocus(native, about)) is not None:
                planes[place] = plane
        where = tuple(slice(axis[0], axis[-1] + 1) for axis in block)
        refocused[where].write(planes).result()


def _bin(full: Any, smaller: Any) -> None:
    """Make a smaller level of the refocused one, averaged along every axis that has shrunk."""
    for block in _blocks(smaller):
        shape = [len(axis) for axis in block] + list(smaller.shape[-2:])
        planes = np.zeros(shape, full.dtype.numpy_dtype.newbyteorder("="))
        for place in product(*(range(len(axis)) for axis in block)):
            reach = [
                range(a[i] * n // m, max(a[i] * n // m + 1, -(-(a[i] + 1) * n // m)))
                for a, i, n, m in zip(
                    block, place, full.shape[:-2], smaller.shape[:-2], strict=True
                )
            ]
            total, count = np.zeros(full.shape[-2:], np.float32), 0
            for index in product(*reach):
                total += np.asarray(full[index].read().result(), np.float32)
                count += 1
            planes[place] = shrink(total / count, smaller.shape[-2:], planes.dtype)
        where = tuple(slice(axis[0], axis[-1] + 1) for axis in block)
        smaller[where].write(planes).result()


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


def _blocks(array: Any) -> Iterator[tuple[range, ...]]:
    """Cut the axes other than y and x into blocks of whole chunks, while those fit the memory."""
    shape, chunk = array.shape[:-2], array.chunk_layout.write_chunk.shape[:-2]
    planes = prod(chunk) * prod(array.shape[-2:]) * array.dtype.numpy_dtype.itemsize
    if planes > LARGEST_BLOCK:
        chunk = (1,) * len(chunk)
    axes = [
        [range(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(shape, chunk, strict=True)
    ]
    yield from product(*axes)
