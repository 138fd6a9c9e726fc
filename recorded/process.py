"""Refocusing data that already exist: OME-Zarr, TIFF, slides of scanners, folders of images.

The output is the input with its pixels refocused: the same format, axes, positions, channels,
scales and file names; a slide in a format of its scanner becomes an OME-Zarr. Metadata are copied
as they stand, never translated, so nothing is lost that this module does not know of. Memory stays
at some regions, however large a plane is.

What is done is kept beside the output's place, region by region, so that a run that was ended goes
on; the result takes its place once it is complete, and what is there is whole.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from refocus.configs import RefocusError, reason_of
from refocus.configs.light_path import UNKNOWN, LightPath
from refocus.configs.live_config import DEFAULTS
from refocus.engine.by_channel import open_models
from refocus.engine.protocol import Engine
from refocus.optics.images import list_images
from refocus.optics.ome_zarr import is_zarr
from refocus.recorded.crew import Here
from refocus.recorded.data_set import DataSet, Marks
from refocus.recorded.folder import Folder, open_file
from refocus.recorded.marks import describe, identify_content, identify_engine, write_record
from refocus.recorded.planes import Bands
from refocus.recorded.png import Png
from refocus.recorded.progress import Progress, identify
from refocus.recorded.refocusing import Options, Refocusing
from refocus.recorded.slide import Slide
from refocus.recorded.tiff import Tiff
from refocus.recorded.verdict_table import HEAT_MAP, TABLE, VerdictTable, columns_of, keep_table
from refocus.recorded.work import Crew, PlaneLost, Processed, Work
from refocus.recorded.zarr import Zarr

IMAGES = Tiff.suffixes + Png.suffixes
RECORD = ".refocus.json"
"""Ends the name of the record beside a file."""

AS_USUAL = Options()


def open_data_set(source: Path, channels: tuple[str, ...] = ()) -> DataSet:
    """Open a data set of any format.

    Parameters
    ----------
    source
        OME-Zarr folder, TIFF or PNG file, slide of a scanner, or folder of images.
    channels
        Those that are to be refocused; all where none is named.

    Raises
    ------
    RefocusError
        It cannot be read, or holds pixels of the wrong kind.
    """
    if not source.exists():
        raise RefocusError(f"{source}: no such file or folder")
    if source.is_dir():
        return Zarr(source) if is_zarr(source) else Folder(source, channels)
    if source.suffix.lower() in Slide.endings:
        return Slide(source, channels)
    return open_file(source, channels)


def stated_by(source: Path, channels: tuple[str, ...] = ()) -> LightPath:
    """Tell what a data set states of its light path, before it is worked on.

    Of a folder only the first TIFF that can be read is opened for it.

    Raises
    ------
    RefocusError
        As :func:`open_data_set`.
    """
    if not source.is_dir() or is_zarr(source):
        with closing(open_data_set(source, channels)) as data:
            return data.light_path
    tiffs = (image for image in list_images(source) if image.suffix.lower() in Tiff.suffixes)
    for image in tiffs:
        with suppress(RefocusError), closing(open_file(image, channels)) as file:
            return file.light_path
    return UNKNOWN


def process(  # noqa: PLR0917
    source: Path,
    target: Path,
    engine: Engine,
    on_progress: Callable[[Processed], None],
    options: Options = AS_USUAL,
    keep_going: bool = False,
    crew: Crew | None = None,
    light_path: Path | None = DEFAULTS.light_path,
) -> Processed:
    """Refocus every plane of a data set into a new one, or go on where that was ended.

    Parameters
    ----------
    source
        OME-Zarr folder, TIFF or PNG file, slide of a scanner, or folder of images.
    target
        Where the result goes; it must not exist. It appears when it is complete.
    engine
        Refocuses planes, or the regions of larger ones.
    on_progress
        Called after each region.
    options
        How planes are refocused.
    keep_going
        A plane or file that cannot be refocused is logged and left out (zero in a Zarr or TIFF),
        instead of ending it all.
    crew
        Who does the work, with engines like this one; by default this one does.
    light_path
        File that keeps what is believed of it from data set to data set; this process reads and
        writes it, whoever does the work.

    Raises
    ------
    RefocusError
        The source cannot be read or holds pixels of the wrong kind, nothing of it is to be
        refocused, the target cannot be written or was begun otherwise, the file of the light path
        is none, or an aperture is told and nothing says how large a pixel is.
    """
    with ExitStack() as opened:
        data = opened.enter_context(closing(open_data_set(source, options.selection.chosen)))
        progress = Progress.beside(target)
        record = _check_target(data, target, progress)
        said = {
            "source": identify(source),
            **options.as_json(),
            **identify_engine(engine.info, options.selection),
            "light_path": identify_content(light_path),
        }
        models = open_models(options.selection.channels, engine, options.insecure)
        refocusing = Refocusing(engine, options, opened.enter_context(models), light_path)
        opened.enter_context(_begun(progress, said, target))
        work = Work(data, refocusing, progress, options, keep_going, on_progress)
        with work.done_by(crew or Here(refocusing)):
            made_by = describe(engine.info)
            marks = Marks(made_by["software"], lambda planes: work.provenance(planes, made_by))
            _write(work, target, marks)
            done = work.finished()
        if record:
            write_record(record, marks.provenance(range(len(data.planes))))
        keep_table(_tabulate(work, refocusing), progress.result, target)
        progress.finish(target)
        refocusing.keep_light_path()
    return done


@contextmanager
def _begun(progress: Progress, said: dict[str, Any], target: Path) -> Iterator[None]:
    """Begin, and keep what is done, however it ends."""
    try:
        progress.begin(said, target)
    except OSError as error:
        raise RefocusError(f"{target}: {reason_of(error)}; name another place") from error
    try:
        yield
    except OSError as error:
        where = error.filename or target
        raise RefocusError(
            f"{where}: {reason_of(error)}; what is done is kept: the same command goes on"
        ) from error
    finally:
        progress.leave()


def _write(work: Work, target: Path, marks: Marks) -> None:
    """Write the result; again, if a plane failed after rows of it were written."""
    while True:
        work.progress.clear_result()
        try:
            work.data.write(work.progress.result, target.name, Bands(work.bands, work.stays), marks)
        except PlaneLost:
            work.finished()  # so that no other does
        else:
            return


def _tabulate(work: Work, refocusing: Refocusing) -> VerdictTable:
    """Write a line for each plane; what is done of a data set says it all."""
    data, optics = work.data, work.options.optics
    with VerdictTable(work.progress.folder / TABLE[1:]) as table:
        table.plate, table.root = data.plate, data.source if isinstance(data, Zarr) else None
        for number, plane in enumerate(data.planes):
            record = work.record(number)
            info = refocusing.engine_of(plane).info if "verdict" in record else None
            known = optics.of(plane.about.channel, plane.about.light_path)
            table.add(plane.about.image, known, info, **columns_of(plane.about, record))
        for about, error in data.unreadable:
            said = columns_of(about, {"plane": about.place, "left_out": str(error)})
            table.add(about.image, UNKNOWN, None, **said)
    return table


def _check_target(data: DataSet, target: Path, progress: Progress) -> Path | None:
    """Refuse a target that is none; give the place of the record beside a file."""
    source = data.source
    if target.exists() or target.is_symlink():
        progress.tidy()
        raise RefocusError(f"{target}: exists already; name another, or remove it first")
    if source.resolve() in target.resolve().parents:
        raise RefocusError(f"{target}: lies inside {source}; name a place outside")
    ending, suffixes = target.suffix.lower(), data.suffixes
    if ending not in suffixes if suffixes else ending in IMAGES:
        wanted = f"a name in {' or '.join(suffixes)}" if suffixes else "the name of a folder"
        like = "an OME-Zarr" if isinstance(data, Slide) else f"like {source}"
        raise RefocusError(f"{target}: the result will be {like}; give it {wanted}")
    beside = [target.with_name(target.name + mark) for mark in (RECORD, TABLE, HEAT_MAP)]
    for path in beside:
        if path.exists() and not progress.is_begun:
            raise RefocusError(f"{path}: exists already; remove it first, or name another target")
    return beside[0] if ending in IMAGES else None
