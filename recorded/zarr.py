"""An OME-Zarr 0.4 or 0.5: all is copied as it stands, and the pixels are replaced."""

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from refocus.configs import RefocusError
from refocus.configs.files import make_writable
from refocus.configs.light_path import UNKNOWN, LightPath
from refocus.optics.ome_xml import zarr_light_paths
from refocus.optics.ome_zarr import (
    ZARR_METADATA,
    ZarrImage,
    axis_um,
    channel_name,
    channel_of,
    find_images,
    is_zarr,
    open_array,
    pixel_size_um,
    reason_read,
)
from refocus.recorded.data_set import DataSet, Marks
from refocus.recorded.planes import (
    About,
    Bands,
    Plane,
    RecordedPlane,
    check_piece,
    check_pixels,
    log,
)
from refocus.recorded.plate import Plate, read_plate
from refocus.recorded.zarr_groups import add_attributes, attributes_of
from refocus.recorded.zarr_writer import Captured, UnderWay, write_image

KEPT = 1 << 28
"""Bytes of decoded chunks of an image that are kept while their neighbours are read."""
OPEN = 4
"""Images that are open for reading: the one that is written, and those that are read ahead."""


@dataclass(frozen=True)
class _Image:
    """An image, the shape of its first level, and the number of its first plane."""

    image: ZarrImage
    shape: tuple[int, ...]
    begins: int

    @property
    def numbers(self) -> range:
        """Of its planes."""
        return range(self.begins, self.begins + prod(self.shape[:-2]))


class Zarr(DataSet):
    """An OME-Zarr: all images of it; one that cannot be read is not among its planes.

    Parameters
    ----------
    source
        Its folder.

    Raises
    ------
    RefocusError
        Nothing of it is readable.
    """

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        broken: dict[Path, RefocusError] = {}
        found = find_images(source, broken)
        self._levels = {level for image in found for level in image.levels}
        self.plate = read_plate(source, broken)
        images = found if self.plate is None else _begun(self.plate, found, broken, source)
        self._images: list[_Image] = []
        stated, opened = zarr_light_paths(source), lru_cache(OPEN)(_open_first)
        kinds: dict[tuple[object, ...], tuple[tuple[int, ...], Any]] = {}
        for image in images:
            kind = _kind(image)
            try:
                if kind not in kinds:
                    kinds[kind] = _check(image)
            except RefocusError as error:
                broken[image.group] = error
                continue
            shape, dtype = kinds[kind]
            self._images.append(_Image(image, shape, len(self.planes)))
            for about in _planes(source, image, shape, _of_channels(image, stated)):
                read = partial(_read, opened, image, about.place, dtype)
                self.planes.append(RecordedPlane(about, (shape[-2], shape[-1]), dtype, read))
        if not self.planes:
            nothing = RefocusError(f"{source}: holds no pixels; give it once they are there")
            raise next(iter(broken.values()), nothing)
        groups = {image.group for image in images}
        for folder, why in broken.items():
            if groups.isdisjoint(folder.parents):  # else it is one of an image's arrays
                name = _name(source, folder)
                self.unreadable.append((About(name, name, image=folder), why))

    def write(self, target: Path, name: str, bands: Bands, marks: Marks) -> None:
        """Copy the whole hierarchy except the images' pixels, then write those refocused.

        ``name`` is what the target will be called in the end: an OME-Zarr does not say it anywhere.
        """

        def not_pixels(folder: str, names: list[str]) -> list[str]:
            inside = not self._levels.isdisjoint((Path(folder), *Path(folder).parents))
            return [name for name in names if inside and name not in ZARR_METADATA]

        shutil.copytree(self.source, target, ignore=not_pixels)
        make_writable(target)
        said: dict[Path, dict[str, Any]] = {}
        with UnderWay() as under_way:
            for one in self._images:
                levels = [target / level.relative_to(self.source) for level in one.image.levels]
                arrays = [open_array(one.image, level, write=True) for level in levels]
                numbers = np.array(one.numbers).reshape(one.shape[:-2])
                beside = target.with_name(f"{target.name}.rows")
                had = [_captured(one.image, level) for level in one.image.levels[1:]]
                write_image(arrays, numbers, bands, beside, under_way, had)
                group = target / one.image.group.relative_to(self.source)
                made = marks.provenance(one.numbers)
                if group in said:  # it has several images
                    said[group]["refocus"]["planes"] += made["planes"]
                    continue
                earlier = attributes_of(group).get("refocus")
                # the source may have been refocused itself
                said[group] = {"refocus": {**made, "before": earlier} if earlier else made}
        if target not in said:  # once: the root of a plate names each of its wells
            said[target] = {"refocus": {key: v for key, v in made.items() if key != "planes"}}
        add_attributes(target, said)


def _begun(
    plate: Plate, found: list[ZarrImage], broken: Collection[Path], source: Path
) -> list[ZarrImage]:
    """Give the fields of a plate whose pixels were begun, and say which ones are missing."""
    there = [image for image in found if is_zarr(image.levels[0])]
    if lacking := plate.lacking({*(image.group for image in there), *broken}):
        log.warning("%s: %s; the rest is done", source, lacking)
    return there


def _kind(image: ZarrImage) -> tuple[object, ...]:
    """Tell images apart whose arrays do not say the same of themselves, as fields of a plate do."""
    said = []
    for level in image.levels:
        texts = (level / name for name in ("zarr.json", ".zarray"))
        said.append(next((text.read_bytes() for text in texts if text.is_file()), str(level)))
    return image.order, *said


def _check(image: ZarrImage) -> tuple[tuple[int, ...], Any]:
    """Look at all levels of an image; give the shape and dtype of the first."""
    arrays = [open_array(image, level) for level in image.levels]
    for array, level in zip(arrays, image.levels, strict=True):
        check_pixels(array.shape[-2:], array.dtype.numpy_dtype, str(level))
        chunk = array.chunk_layout.read_chunk.shape
        check_piece(chunk, array.dtype.numpy_dtype, f"{level}: one chunk")
    return arrays[0].shape, arrays[0].dtype.numpy_dtype.newbyteorder("=")


def _planes(
    source: Path,
    image: ZarrImage,
    shape: tuple[int, ...],
    light_paths: tuple[LightPath, ...],
) -> Iterator[About]:
    names = [image.axes[axis] for axis in image.order[:-2]]
    group = _name(source, image.group)
    step_um = axis_um(image, image.axes.index("z")) if "z" in names else 0.0
    in_stack = dict(zip(names, shape[:-2], strict=True)).get("z", 1) > 1
    for index in product(*(range(n) for n in shape[:-2])):
        axes = dict(zip(names, index, strict=True))
        yield About(
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


def _name(source: Path, group: Path) -> str:
    return group.name if group == source else str(group.relative_to(source))


def _open_first(image: ZarrImage) -> Any:
    return open_array(image, image.levels[0], kept=KEPT)


def _read(  # noqa: PLR0917
    opened: Callable[[ZarrImage], Any],
    image: ZarrImage,
    index: tuple[int, ...],
    dtype: Any,
    rows: slice,
    columns: slice,
) -> Plane:
    return _pixels(opened(image), image.levels[0], index, dtype, (rows, columns))


def _pixels(
    array: Any, level: Path, index: tuple[int, ...], dtype: Any, window: tuple[slice, ...]
) -> Plane:
    try:
        pixels = array[(*index, *window)].read().result()
    except (ValueError, OSError) as error:
        where = f"{level}, plane {index}"
        raise RefocusError(f"{where}: not readable: {reason_read(error)}") from error
    return np.ascontiguousarray(pixels, dtype=dtype)


def _captured(image: ZarrImage, level: Path) -> Captured:
    """Read rows of a level as captured; it is opened when some are asked for."""
    opened = cache(partial(open_array, image, level))

    def read(index: tuple[int, ...], rows: slice) -> Plane:
        dtype = opened().dtype.numpy_dtype.newbyteorder("=")
        return _pixels(opened(), level, index, dtype, (rows,))

    return read


def _of_channels(
    image: ZarrImage, stated: Sequence[tuple[LightPath, ...]]
) -> tuple[LightPath, ...]:
    """Give the light path of each channel; images of a converted file are numbered as in it."""
    name, size_um = image.group.name, pixel_size_um(image)
    number = int(name) if name.isdecimal() else 0
    of_file = stated[number] if number < len(stated) else (UNKNOWN,)
    return tuple(replace(path, pixel_size_um=size_um) for path in of_file)
