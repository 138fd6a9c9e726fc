"""Reading the metadata of an OME-Zarr 0.4 or 0.5: images, their levels, axes, scales, channels.

What is stated is checked with yaozarrs. Keys that the format does not know are passed over.
"""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from yaozarrs import v04, v05

from refocus.configs import RefocusError, first_fault, reason_of
from refocus.optics.paths import inside, refuse_links_out

ZARR_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
"""Files of a Zarr, version 3 or 2, that hold no pixels."""

NO_IMAGES = ("labels", "tables")
"""Folders that hold no images to refocus: of the format, and of tables that are read with ngio."""

MICROMETRES = {
    **{"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "Å": 1e-4},
    **{"micron": 1.0, "microns": 1.0, "inch": 25_400.0, "angstrom": 1e-4},
    **{"meter": 1e6, "centimeter": 1e4, "millimeter": 1e3, "micrometer": 1.0, "nanometer": 1e-3},
    **{"metre": 1e6, "centimetre": 1e4, "millimetre": 1e3, "micrometre": 1.0, "nanometre": 1e-3},
}
"""Units of length that files state, in µm."""


@dataclass(frozen=True)
class ZarrImage:
    """A multiscale image.

    Attributes
    ----------
    group
        Its folder.
    levels
        Folders of its arrays, the largest first.
    axes
        Names of the axes, such as ``("t", "c", "y", "x")``.
    order
        Numbers of the axes with y and x last, as :func:`open_array` gives them.
    scale, units
        Of each axis, at full resolution; the unit is None where none is stated.
    channels
        Names of the channels, where it has any.
    noted_um
        Size of a pixel as pymmcore-plus notes it beside the image, µm; 0.0 where it does not.
    """

    group: Path
    levels: tuple[Path, ...]
    axes: tuple[str, ...]
    order: tuple[int, ...]
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    channels: tuple[str, ...]
    noted_um: float = 0.0


def is_zarr(folder: Path) -> bool:
    """Tell a Zarr from other folders."""
    return any((folder / name).is_file() for name in ZARR_METADATA)


def find_images(root: Path, broken: dict[Path, RefocusError] | None = None) -> list[ZarrImage]:
    """Find the images of an OME-Zarr: one, or those of all positions or wells; no labels.

    Parameters
    ----------
    root
        Its folder.
    broken
        Takes what is wrong with a group, by its folder, so that the others are found.

    Raises
    ------
    RefocusError
        There is none, metadata are broken, or a path or link leads out of the folder.
    """
    refuse_links_out(root)
    faults: dict[Path, RefocusError] = {}
    found: list[ZarrImage] = []
    for path, document in _groups(root, faults):
        try:
            found += list(_images(path, document))
        except RefocusError as error:
            faults[path.parent] = error
    if faults and (broken is None or not found):
        raise next(iter(faults.values()))
    if broken is not None:
        broken |= faults
    if not found:
        raise RefocusError(
            f"{root}: holds no OME-Zarr image: it names no multiscale image; "
            "give a folder written as OME-Zarr"
        )
    return found


def pixel_size_um(image: ZarrImage) -> float:
    """Give the size of a pixel at full resolution, µm; 0.0 where it is not known.

    A size of just 1 is what writers put where they know nothing: it is that of the camera, if that
    is noted.
    """
    y, x = image.order[-2:]
    size = one_size([axis_um(image, x), axis_um(image, y)])
    return image.noted_um if image.scale[y] == image.scale[x] == 1.0 else size


def one_size(sizes: list[float]) -> float:
    """Give the size of square pixels; 0.0 where they are not square, or a size is unknown."""
    known = all(0.0 < size < inf for size in sizes)
    return sizes[0] if known and abs(sizes[0] - sizes[1]) <= 0.01 * max(sizes) else 0.0


def channel_name(image: ZarrImage, index: tuple[int, ...]) -> str:
    """Give the channel of a plane; empty where it has no name.

    Parameters
    ----------
    index
        Of the plane, along the axes other than y and x.
    """
    place = channel_of(image, index)
    return image.channels[place] if place < len(image.channels) else ""


def channel_of(image: ZarrImage, index: tuple[int, ...]) -> int:
    """Give the number of a plane's channel; 0 where there is but one."""
    outer = [image.axes[axis] for axis in image.order[:-2]]
    return index[outer.index("c")] if "c" in outer else 0


def axis_um(image: ZarrImage, axis: int, unstated: float = 0.0) -> float:
    """Give the step along an axis, µm; ``unstated`` times the scale where it has no unit."""
    unit = image.units[axis]
    return image.scale[axis] * (unstated if unit is None else MICROMETRES.get(unit, 0.0))


def open_array(image: ZarrImage, level: Path, write: bool = False, kept: int = 0) -> Any:
    """Open the array of a level with tensorstore, y and x as its last axes.

    Parameters
    ----------
    image, level
        Which.
    write
        Its pixels are to be written.
    kept
        Bytes of decoded chunks that are kept for whoever reads their neighbours.

    Raises
    ------
    RefocusError
        It is not readable, or has other axes than the metadata say.
    """
    import tensorstore

    driver = "zarr3" if (level / "zarr.json").exists() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(level.resolve())}}
    try:
        array = tensorstore.open(
            spec,
            open=True,
            read=True,
            write=write,
            context=tensorstore.Context({"cache_pool": {"total_bytes_limit": kept}}),
        ).result()
    except ValueError as error:
        raise RefocusError(f"{level}: not a readable Zarr array: {reason_read(error)}") from error
    if array.rank != len(image.axes):
        raise RefocusError(
            f"{level}: has {array.rank} axes, and its metadata name {len(image.axes)}; correct them"
        )
    return array.transpose(image.order)


def reason_read(error: BaseException) -> str:
    """Say in one line why something failed, without all that tensorstore was told."""
    return reason_of(ValueError(str(error).partition(" [tensorstore_spec=")[0]))


def read_document(path: Path) -> dict[str, Any]:
    """Read a metadata file.

    Raises
    ------
    RefocusError
        It is no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RefocusError(f"{path}: not readable metadata ({error})") from error
    if not isinstance(found, dict):
        raise RefocusError(f"{path}: not readable metadata (no JSON object)")
    return found


def _groups(
    folder: Path, broken: dict[Path, RefocusError]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Give the document of each group; walk into no array: it may have a million chunk files."""
    with os.scandir(folder) as found:
        entries = {entry.name: entry for entry in found}
    if ".zarray" in entries:
        return
    name = next((name for name in ("zarr.json", ".zattrs") if name in entries), None)
    if name is not None:
        try:
            document = read_document(folder / name)
        except RefocusError as error:  # of what may be an array
            broken[folder] = error
            return
        if name == "zarr.json" and document.get("node_type") == "array":
            return
        yield folder / name, document
    for inner in sorted(entries):
        if inner not in NO_IMAGES and entries[inner].is_dir():
            yield from _groups(folder / inner, broken)


def ome_attributes(path: Path, document: dict[str, Any]) -> tuple[Any, Any]:
    """Give what a group's document says of OME-Zarr, and the version of yaozarrs that reads it."""
    if path.name != "zarr.json":
        return document, v04
    attributes = document.get("attributes") or {}
    return (attributes["ome"], v05) if "ome" in attributes else (attributes, v04)


def _images(path: Path, document: dict[str, Any]) -> Iterator[ZarrImage]:
    attributes, version = ome_attributes(path, document)
    if not isinstance(attributes, dict) or "image-label" in attributes:
        return
    stated = attributes.get("multiscales") or []
    if not isinstance(stated, list):
        raise RefocusError(f"{path}: broken OME-Zarr metadata: multiscales: is no list")
    seen = set()
    for number, multiscale in enumerate(stated):
        with metadata_of(path, "multiscales", number):
            found = _multiscale(version.Multiscale, json.dumps(multiscale))
        levels = tuple(inside(path.parent, level, path) for level in found.paths)
        if path.parent in levels:
            raise RefocusError(f"{path}: names itself as an array; correct its paths")
        if levels[0] not in seen:
            seen.add(levels[0])
            stated_of = (*found[1:], _channels(attributes), _noted_um(document))
            yield ZarrImage(path.parent, levels, *stated_of)


@contextmanager
def metadata_of(path: Path, *place: str | int) -> Iterator[None]:
    """Tell in a line what yaozarrs finds wrong at a place of a document.

    Raises
    ------
    RefocusError
        It found something.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of units that the format does not know
            yield
    except ValidationError as error:
        where, said = first_fault(error, *place)
        raise RefocusError(
            f"{path}: broken OME-Zarr metadata: {where}: {said}; write it as OME-Zarr 0.4 or 0.5"
        ) from error


class _Multiscale(NamedTuple):
    """What an image says, apart from where it is; see :class:`ZarrImage`."""

    paths: tuple[str, ...]
    axes: tuple[str, ...]
    order: tuple[int, ...]
    scale: tuple[float, ...]
    units: tuple[str | None, ...]


@lru_cache(maxsize=64)
def _multiscale(kind: Any, text: str) -> _Multiscale:
    """Read what is stated: once where thousands of fields of a plate say the same."""
    found = kind.model_validate_json(text)
    names = [axis.name for axis in found.axes]
    last = [names.index(side) for side in "yx"] if {"y", "x"} <= set(names) else None
    last = last or [n for n, axis in enumerate(found.axes) if axis.type == "space"][-2:]
    scale = [1.0] * len(names)
    for change in (
        *found.datasets[0].coordinateTransformations,
        *(found.coordinateTransformations or ()),
    ):
        if change.type == "scale":
            scale = [a * b for a, b in zip(scale, change.scale, strict=True)]
    return _Multiscale(
        tuple(level.path for level in found.datasets),
        tuple(names),
        (*(n for n in range(len(names)) if n not in last), *last),
        tuple(scale),
        tuple(axis.unit if axis.type != "channel" else None for axis in found.axes),
    )


def _noted_um(document: dict[str, Any]) -> float:
    """Read the size of a pixel of all cameras that pymmcore-plus notes; 0.0 where it does not."""
    try:
        cameras = document["attributes"]["pymmcore_plus"]["summary_metadata"]["image_infos"]
        sizes = {float(camera["pixel_size_um"]) for camera in cameras}
    except (LookupError, TypeError, ValueError):
        return 0.0
    return one_size([*sizes, *sizes]) if len(sizes) == 1 else 0.0


def _channels(attributes: dict[str, Any]) -> tuple[str, ...]:
    """Read the names of channels; not with yaozarrs, for which a channel must have a colour."""
    omero = attributes.get("omero")
    found = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(found, list):
        return ()
    return tuple(str(c.get("label") or "") if isinstance(c, dict) else "" for c in found)
