"""Refocusing data that already exist: OME-Zarr, OME-TIFF and other TIFF, folders of images.

The output is the input with its pixels refocused: the same format, axes, positions, channels,
scales and file names. Metadata are copied as they stand, never translated, so nothing is lost
that this module does not know of. Memory stays at a few planes.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from refocus.configs import RefocusError
from refocus.engine.protocol import Engine, EngineError
from refocus.optics.images import list_images, read_image

log = logging.getLogger("refocus.process")

Plane = NDArray[Any]
Refocus = Callable[[Plane, str], Plane | None]
"""Gives the refocused plane, or None where the engine failed; the text says which plane it is."""

LOSSLESS = (tifffile.COMPRESSION.NONE, tifffile.COMPRESSION.LZW, tifffile.COMPRESSION.ZSTD)
ZARR_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


@dataclass
class Processed:
    """What became of a data set: planes refocused and failed, and the engine's time for each."""

    refocused: int = 0
    failed: int = 0
    engine_ms: list[float] = field(default_factory=list)


def process(
    source: Path, target: Path, engine: Engine, *, on_plane: Callable[[Processed], None]
) -> Processed:
    """Refocus every plane of a data set into a new one.

    Parameters
    ----------
    source
        OME-Zarr folder, TIFF or PNG file, or folder of images.
    target
        Where the result goes; it must not exist.
    engine
        Refocuses a plane. One that it fails on is logged and left out (zero in a Zarr or TIFF).
    on_plane
        Called after each plane.

    Raises
    ------
    RefocusError
        The source cannot be read or holds pixels of the wrong kind, or the target cannot be
        written.
    """
    if not source.exists():
        raise RefocusError(f"{source}: no such file or folder")
    if target.exists():
        raise RefocusError(f"{target}: exists already; name another, or remove it first")
    if source.resolve() in target.resolve().parents:
        raise RefocusError(f"{target}: lies inside {source}; name a place outside")
    done = Processed()
    shapes: set[tuple[int, ...]] = set()

    def refocus(plane: Plane, name: str) -> Plane | None:
        if plane.shape not in shapes:
            shapes.add(plane.shape)
            engine.warm_up((plane.shape[0], plane.shape[1]), plane.dtype)
        started = time.perf_counter()
        try:
            result = engine.refocus(plane)
        except EngineError as error:
            log.warning("%s: left out: %s", name, error)
            done.failed += 1
            result = None
        else:
            done.refocused += 1
            done.engine_ms.append((time.perf_counter() - started) * 1000)
        on_plane(done)
        return result

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _choose(source)(source, target, refocus)
    except OSError as error:
        where = error.filename or target
        raise RefocusError(f"{where}: {error.strerror or error}; what was written stays") from error
    return done


def count_planes(source: Path) -> int:
    """Count the planes of a data set, for a progress bar (a folder counts its files).

    Raises
    ------
    RefocusError
        The source cannot be read.
    """
    if not source.exists():
        raise RefocusError(f"{source}: no such file or folder")
    kind = _choose(source)
    if kind is _process_zarr:
        return sum(int(np.prod(_open(i.levels[0]).shape[:-2])) for i in find_zarr_images(source))
    if kind is _process_tiff:
        with _open_tiff(source) as tiff:
            return len(tiff.pages)
    return 1 if source.is_file() else len(list_images(source))


def _choose(source: Path) -> Callable[[Path, Path, Refocus], None]:
    if source.is_dir():
        is_zarr = any((source / name).exists() for name in ZARR_METADATA)
        return _process_zarr if is_zarr else _process_folder
    return _process_tiff if source.suffix.lower() in (".tif", ".tiff") else _process_png


# ---------------------------------------------------------------- folders and single images


def _process_folder(source: Path, target: Path, refocus: Refocus) -> None:
    images = list_images(source)
    target.mkdir()
    for image in images:
        _choose(image)(image, target / image.name, refocus)


def _process_png(source: Path, target: Path, refocus: Refocus) -> None:
    if source.suffix.lower() != ".png":
        raise RefocusError(f"{source}: not a format that is read; give .ome.zarr, .tif or .png")
    plane = refocus(read_image(source), source.name)
    if plane is not None:
        Image.fromarray(plane).save(target, format="PNG")


# ---------------------------------------------------------------- TIFF


def _open_tiff(path: Path) -> tifffile.TiffFile:
    try:
        tiff = tifffile.TiffFile(path)
        if not len(tiff.pages):
            tiff.close()
            raise ValueError("it holds no pages")
        return tiff
    except (tifffile.TiffFileError, OSError, ValueError) as error:
        raise RefocusError(f"{path}: not a readable TIFF ({error}); replace it") from error


def _process_tiff(source: Path, target: Path, refocus: Refocus) -> None:
    """Rewrite a TIFF page by page, so that its OME-XML (which counts pages) stays true."""
    with _open_tiff(source) as tiff:
        if tiff.is_imagej and len(tiff.pages) < int(np.prod(tiff.series[0].shape[:-2])):
            raise RefocusError(f"{source}: an ImageJ stack of one page; save it as OME-TIFF first")
        for number, page in enumerate(tiff.pages):
            _check_pixels(page.shape, page.dtype, f"{source}, page {number}")
        unfinished = target.with_name(f".{target.name}.unfinished")
        try:
            with tifffile.TiffWriter(
                unfinished, bigtiff=tiff.is_bigtiff, byteorder=tiff.byteorder, ome=False
            ) as writer:
                for number, frame in enumerate(tiff.pages):
                    page = frame.aspage()
                    captured = _read_page(page, f"{source}, page {number}")
                    plane = refocus(captured, f"{source.name}, page {number}")
                    # a file's OME-XML refers to the file by its name
                    text = page.description.replace(f'"{source.name}"', f'"{target.name}"')
                    pixels = np.zeros_like(captured) if plane is None else plane
                    _write_page(writer, pixels, page, text)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)


def _read_page(page: tifffile.TiffPage, where: str) -> Plane:
    try:
        pixels = page.asarray()
    except Exception as error:  # decoders raise whatever they like on a broken file
        raise RefocusError(f"{where}: not readable ({error}); replace the file") from error
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def _write_page(
    writer: tifffile.TiffWriter, pixels: Plane, like: tifffile.TiffPage, description: str
) -> None:
    writer.write(
        pixels,
        photometric="minisblack",
        description=description.encode() or None,
        metadata=None,
        compression=like.compression if like.compression in LOSSLESS else "zlib",
        resolution=like.resolution,
        resolutionunit=like.resolutionunit,
        software=like.software or None,
        contiguous=False,
    )


# ---------------------------------------------------------------- OME-Zarr


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


def _zarr_groups(folder: Path) -> Iterator[Path]:
    """Walk down the groups, and into no array: it may have a million chunk files."""
    modern = folder / "zarr.json"
    if (folder / ".zarray").exists() or (modern.exists() and '"array"' in modern.read_text()):
        return
    if modern.exists() or (folder / ".zattrs").exists():
        yield folder
    for inner in sorted(p for p in folder.iterdir() if p.is_dir() and p.name != "labels"):
        yield from _zarr_groups(inner)


def _process_zarr(source: Path, target: Path, refocus: Refocus) -> None:
    """Copy the whole hierarchy except the images' pixels, then write those refocused."""
    images = find_zarr_images(source)
    for image in images:
        array = _open(image.levels[0])
        _check_pixels(array.shape[-2:], array.dtype.numpy_dtype, str(image.levels[0]))
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
            level[where].write(_shrink(planes, level.shape[-2:])).result()


def _blocks(shape: tuple[int, ...], chunk: tuple[int, ...]) -> Iterator[tuple[range, ...]]:
    axes = [
        [range(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(shape, chunk, strict=True)
    ]
    yield from product(*axes)


def _shrink(planes: Plane, shape: tuple[int, int]) -> Plane:
    """Average planes down to a smaller ``(H, W)``, as the levels of a pyramid are made."""
    smaller = np.zeros((*planes.shape[:-2], *shape), planes.dtype)
    for place in np.ndindex(planes.shape[:-2]):
        image = Image.fromarray(planes[place].astype(np.float32))
        averaged = image.resize((shape[1], shape[0]), Image.Resampling.BOX)
        smaller[place] = np.rint(np.asarray(averaged))
    return smaller


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


def _check_pixels(shape: tuple[int, ...], dtype: Any, where: str) -> None:
    if len(shape) != 2:
        raise RefocusError(
            f"{where}: has shape {tuple(shape)}, but monochrome planes (H, W) are needed; "
            "save each colour as a channel of its own"
        )
    if np.dtype(dtype).newbyteorder("=") not in (np.uint8, np.uint16):
        raise RefocusError(f"{where}: has pixels of {dtype}, but uint8 or uint16 is needed")
