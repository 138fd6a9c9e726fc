"""The part of a plane that ``--region`` names: what the engine is shown of it, and its way back."""

from collections.abc import Iterator
from dataclasses import replace

from refocus.engine.region import Region, shown_of
from refocus.recorded.planes import ROWS, Plane, RecordedPlane
from refocus.recorded.rows import in_heights


def part(plane: RecordedPlane, region: Region | None) -> RecordedPlane:
    """Give what the engine is shown of a plane, as a plane of its own.

    Parameters
    ----------
    plane
        As captured.
    region
        What is refocused of it; None for all.

    Raises
    ------
    EngineError
        The region reaches beyond the plane.
    """
    if region is None:
        return plane
    down, along = shown_of(region, plane.shape)

    def read(rows: slice, columns: slice) -> Plane:
        return plane.read(_moved(rows, down.start), _moved(columns, along.start))

    shape = down.stop - down.start, along.stop - along.start
    return replace(plane, shape=shape, read=read)


def put_back(
    plane: RecordedPlane, region: Region | None, bands: Iterator[Plane]
) -> Iterator[Plane]:
    """Give the rows of a plane: as captured, but for its region.

    Parameters
    ----------
    plane, region
        As :func:`part` takes them.
    bands
        Rows of that part, refocused.
    """
    if region is None:
        yield from bands
        return
    x, y, width, height = region
    down, along = shown_of(region, plane.shape)
    yield from plane.bands(0, down.start)
    top, left = down.start, x - along.start
    for band in in_heights(bands, ROWS):
        whole = plane.read(slice(top, top + len(band)), slice(0, plane.shape[1])).copy()
        rows = slice(max(y - top, 0), max(y + height - top, 0))
        whole[rows, x : x + width] = band[rows, left : left + width]
        yield whole
        top += len(band)
    yield from plane.bands(top, plane.shape[0])


def _moved(span: slice, by: int) -> slice:
    return slice(span.start + by, span.stop + by)
