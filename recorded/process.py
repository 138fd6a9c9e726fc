"""Refocusing data that already exist: OME-Zarr, OME-TIFF and other TIFF, folders of images.

The output is the input with its pixels refocused: the same format, axes, positions, channels,
scales and file names. Metadata are copied as they stand, never translated, so nothing is lost
that this module does not know of. Memory stays at a few planes.

The result is written beside its place, under a name of its own, and takes its place once it is
complete: what is there is whole, and a run that was stopped is in nobody's way.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from refocus.configs import RefocusError
from refocus.configs.light_path import KnownOptics
from refocus.configs.live_config import DEFAULTS
from refocus.engine.by_channel import open_models
from refocus.engine.protocol import Engine
from refocus.engine.refocuser import OnDistrust
from refocus.optics.images import list_images
from refocus.optics.ome_zarr import is_zarr
from refocus.optics.paths import leads_inside
from refocus.recorded.png import process_png
from refocus.recorded.refocusing import About, Processed, Refocusing, log
from refocus.recorded.selection import USUAL, Selection
from refocus.recorded.tiff import count_tiff_planes, process_tiff
from refocus.recorded.verdict_table import HEAT_MAP, TABLE, VerdictTable, keep_table
from refocus.recorded.zarr import count_zarr_planes, process_zarr

TIFF, PNG = (".tif", ".tiff"), (".png",)
IMAGES = TIFF + PNG

RECORD = ".refocus.json"
"""Ends the name of the record beside a file; in a folder, it is the whole name less the dot."""

Write = Callable[[Path, Path, str, Refocusing], None]
"""Refocuses a source into a target that will be renamed to what the text says."""


def process(
    source: Path,
    target: Path,
    engine: Engine,
    *,
    on_plane: Callable[[Processed], None],
    on_distrust: OnDistrust = DEFAULTS.on_distrust,
    optics: KnownOptics = DEFAULTS.optics,
    selection: Selection = USUAL,
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
    optics
        What is told of the light path; it wins over what a file says, plane by plane. Where
        neither says how large a pixel is, it is as large as the model's.
    selection
        Which planes are refocused, by which model, and which part of them.

    Raises
    ------
    RefocusError
        The source cannot be read or holds pixels of the wrong kind, nothing of it is to be
        refocused, the target cannot be written, or an aperture is told and nothing says how large
        a pixel is.
    """
    if not source.exists():
        raise RefocusError(f"{source}: no such file or folder")
    if target.exists():
        raise RefocusError(f"{target}: exists already; name another, or remove it first")
    if source.resolve() in target.resolve().parents:
        raise RefocusError(f"{target}: lies inside {source}; name a place outside")
    write, suffixes = _kind(source)
    ending = target.suffix.lower()
    if ending not in suffixes if suffixes else ending in IMAGES:
        wanted = f"a name in {' or '.join(suffixes)}" if suffixes else "the name of a folder"
        raise RefocusError(f"{target}: the result will be like {source}; give it {wanted}")
    beside = [target.with_name(target.name + mark) for mark in (RECORD, TABLE, HEAT_MAP)]
    for path in beside:
        if path.exists():
            raise RefocusError(f"{path}: exists already; remove it first, or name another target")
    unfinished = target.with_name(f".{target.name}.unfinished")
    unfinished_table = unfinished.with_name(unfinished.name + TABLE)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(unfinished)  # of a run that was killed
        with (
            VerdictTable(unfinished_table) as table,
            open_models(selection.channels, engine) as channels,
        ):
            work = Refocusing(
                engine,
                source,
                table,
                on_plane=on_plane,
                on_distrust=on_distrust,
                optics=optics,
                selection=selection,
                channels=channels,
            )
            write(source, unfinished, target.name, work)
        work.check_selection()
        if work.unreadable and not work.done.refocused:
            raise work.unreadable
        if unfinished.exists():  # not if the only plane failed
            if suffixes:
                _write_record(beside[0], work)
            keep_table(table, unfinished, target)
            unfinished.replace(target)
    except OSError as error:
        where = error.filename or target
        raise RefocusError(
            f"{where}: {error.strerror or error}; nothing is kept of the result: run it again"
        ) from error
    finally:
        _remove(unfinished)
        _remove(unfinished_table)
    return work.done


def _write_record(path: Path, work: Refocusing) -> None:
    text = json.dumps(work.provenance(), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


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
        return process_png, PNG
    raise RefocusError(f"{source}: not a format that is read; give .ome.zarr, .tif or .png")


def _process_folder(source: Path, target: Path, name: str, work: Refocusing) -> None:
    """Refocus the images of a folder, and copy what is beside them; one that fails is left out."""
    images = list_images(source)
    target.mkdir()
    records = []
    for image in images:
        write, _ = _kind(image)
        try:
            write(image, target / image.name, image.name, work)
        except RefocusError as error:
            _remove(target / image.name)
            work.leave_out(About(image.name, image.name), error)
        records.append({**work.provenance(), "source": image.name})
    for other in sorted(source.iterdir()):
        if other in images or other.name.startswith("."):
            continue
        if other.is_dir() or not leads_inside(source, other):
            what = "a folder" if other.is_dir() else "a link that leads out of the folder"
            log.warning("%s: not copied: is %s", other, what)
            continue
        shutil.copy2(other, target / other.name)
    text = json.dumps(records, indent=2, ensure_ascii=False)
    (target / RECORD[1:]).write_text(text + "\n", encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
