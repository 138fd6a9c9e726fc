"""Refocusing an OME-Zarr 0.4 or 0.5: all is copied as it stands, and the pixels are replaced."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from refocus.configs import RefocusError
from refocus.recorded.planes import Refocus, check_pixels, shrink

ZARR_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


@dataclass(frozen=True)
class ZarrImage:
    """A multiscale image of an OME-Zarr: its group, and its levels, the largest first."""

    group: Path
    levels: tuple[Path, ...]


def find_zarr_images(root: Path) -> list[ZarrImage]:
    """Find the images of an OME-Zarr 0.4 or 0.5: one, or those of all positions or wells.

    Raises
    ------
    RefocusError
        There is none.
    """
    found = []
    for group in _zarr_groups(root):
        for multiscale in _zarr_attributes(group).get("multiscales", []):
            levels = tuple(group / level["path"] for level in multiscale["datasets"])
            found.append(ZarrImage(group, levels))
    if not found:
        raise RefocusError(f"{root}: holds no OME-Zarr image; give a folder written as OME-Zarr")
    return found


def count_zarr_planes(source: Path) -> int:
    """Count the planes of all images of an OME-Zarr, at full resolution."""
    return sum(int(np.prod(_open(i.levels[0]).shape[:-2])) for i in find_zarr_images(source))


def _zarr_groups(folder: Path) -> Iterator[Path]:
    """Walk down the groups, and into no array: it may have a million chunk files."""
    modern = folder / "zarr.json"
    if (folder / ".zarray").exists() or (modern.exists() and '"array"' in modern.read_text()):
        return
    if modern.exists() or (folder / ".zattrs").exists():
        yield folder
    for inner in sorted(p for p in folder.iterdir() if p.is_dir() and p.name != "labels"):
        yield from _zarr_groups(inner)


def process_zarr(source: Path, target: Path, name: str, refocus: Refocus) -> None:
    """Copy the whole hierarchy except the images' pixels, then write those refocused.

    ``name`` is what the target will be called in the end: an OME-Zarr does not say it anywhere.
    """
    images = find_zarr_images(source)
    for image in images:
        array = _open(image.levels[0])
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
        _refocus_array(_open(image.levels[0]), [_open(x, write=True) for x in levels], refocus)


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


def _open(path: Path, write: bool = False) -> Any:
    import tensorstore

    driver = "zarr3" if (path / "zarr.json").exists() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path.resolve())}}
    try:
        return tensorstore.open(spec, open=True, read=True, write=write).result()
    except ValueError as error:
        reason = str(error).splitlines()[0][:160]
        raise RefocusError(f"{path}: not a readable Zarr array: {reason}") from error


def _zarr_attributes(group: Path) -> dict[str, Any]:
    """Give the OME attributes of a group: OME-Zarr 0.5 (Zarr 3) or 0.4 (Zarr 2)."""
    modern, older = group / "zarr.json", group / ".zattrs"
    path = modern if modern.exists() else older
    try:
        attributes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RefocusError(f"{path}: not readable metadata ({error})") from error
    if path == modern:
        attributes = attributes.get("attributes", {})
        attributes = attributes.get("ome", attributes)
    return dict(attributes)
