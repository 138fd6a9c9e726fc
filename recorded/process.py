"""Refocusing data that already exist: OME-Zarr, OME-TIFF and other TIFF, folders of images.

The output is the input with its pixels refocused: the same format, axes, positions, channels,
scales and file names. Metadata are copied as they stand, never translated, so nothing is lost
that this module does not know of. Memory stays at a few planes.

The result is written beside its place, under a name of its own, and takes its place once it is
complete: what is there is whole, and a run that was stopped is in nobody's way.
"""

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from refocus.configs import RefocusError
from refocus.configs.live_config import DEFAULTS
from refocus.engine.protocol import Engine, EngineError
from refocus.engine.refocuser import OnDistrust, Refocuser
from refocus.optics.images import list_images, read_image
from refocus.optics.ome_zarr import is_zarr
from refocus.recorded.planes import Plane, Refocus
from refocus.recorded.tiff import count_tiff_planes, process_tiff
from refocus.recorded.zarr import count_zarr_planes, process_zarr

log = logging.getLogger("refocus.process")

TIFF, PNG = (".tif", ".tiff"), (".png",)
IMAGES = TIFF + PNG

Write = Callable[[Path, Path, str, Refocus], None]
"""Refocuses a source into a target that will be renamed to what the text says."""


@dataclass
class Processed:
    """What became of a data set: planes refocused and failed, their verdicts and engine times."""

    refocused: int = 0
    failed: int = 0
    engine_ms: list[float] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)


def process(
    source: Path,
    target: Path,
    engine: Engine,
    *,
    on_plane: Callable[[Processed], None],
    on_distrust: OnDistrust = DEFAULTS.on_distrust,
    pixel_size_um: float = 0.0,
) -> Processed:
    """Refocus every plane of a data set into a new one.

    Parameters
    ----------
    source
        OME-Zarr folder, TIFF or PNG file, or folder of images.
    target
        Where the result goes; it must not exist. It appears when it is complete.
    engine
        Refocuses a plane. One that it fails on is logged and left out (zero in a Zarr or TIFF).
    on_plane
        Called after each plane.
    on_distrust
        What is written where a result is not trusted.
    pixel_size_um
        Of the planes, µm; 0.0 for the model's own.

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
    refocuser = Refocuser(engine, on_distrust=on_distrust)

    def refocus(plane: Plane, name: str) -> Plane | None:
        started = time.perf_counter()
        try:
            refocuser.warm_up(plane.shape, plane.dtype, pixel_size_um)
            result = refocuser.refocus(plane, pixel_size_um=pixel_size_um)
        except EngineError as error:
            log.warning("%s: left out: %s", name, error)
            done.failed += 1
            on_plane(done)
            return None
        done.refocused += 1
        done.verdicts[result.judgement.verdict] += 1
        done.engine_ms.append((time.perf_counter() - started) * 1000)
        on_plane(done)
        return result.pixels

    write, suffixes = _kind(source)
    ending = target.suffix.lower()
    if ending not in suffixes if suffixes else ending in IMAGES:
        wanted = f"a name in {' or '.join(suffixes)}" if suffixes else "the name of a folder"
        raise RefocusError(f"{target}: the result will be like {source}; give it {wanted}")
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(unfinished)  # of a run that was killed
        write(source, unfinished, target.name, refocus)
        if unfinished.exists():  # not if the only plane failed
            unfinished.replace(target)
    except OSError as error:
        where = error.filename or target
        raise RefocusError(
            f"{where}: {error.strerror or error}; nothing is kept of the result: run it again"
        ) from error
    finally:
        _remove(unfinished)
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
    write, _ = _kind(source)
    if write is process_zarr:
        return count_zarr_planes(source)
    if write is process_tiff:
        return count_tiff_planes(source)
    return 1 if source.is_file() else len(list_images(source))


def _kind(source: Path) -> tuple[Write, tuple[str, ...]]:
    """Give what writes a data set like this one, and how a file of it ends; nothing for folders."""
    if source.is_dir():
        return (process_zarr if is_zarr(source) else _process_folder), ()
    if source.suffix.lower() in TIFF:
        return process_tiff, TIFF
    if source.suffix.lower() in PNG:
        return _process_png, PNG
    raise RefocusError(f"{source}: not a format that is read; give .ome.zarr, .tif or .png")


def _process_folder(source: Path, target: Path, name: str, refocus: Refocus) -> None:
    images = list_images(source)
    target.mkdir()
    for image in images:
        write, _ = _kind(image)
        write(image, target / image.name, image.name, refocus)


def _process_png(source: Path, target: Path, name: str, refocus: Refocus) -> None:
    plane = refocus(read_image(source), source.name)
    if plane is not None:
        Image.fromarray(plane).save(target, format="PNG")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
