"""A plate of small planes: how long it takes to open, and what a plane costs beside the engine.

``python -m refocus.bench.plates`` refocuses 384 wells of 9 fields with the engine ``fake``;
``python -m refocus.bench.plates --fields 19 --open`` opens some 7,000 positions.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ome_writers
from numpy.typing import NDArray

from refocus.bench.report_command import count, run_report
from refocus.engine import open_engine
from refocus.recorded.process import open_data_set, process

PIXEL_UM = 0.656

Look = Callable[[str, str, int], NDArray[Any]]
"""Gives the planes ``(C, H, W)`` of a row, a column and a field."""


@dataclass(frozen=True)
class PlateRow:
    """One plate, opened and refocused by an engine that does nothing.

    Attributes
    ----------
    wells, planes
        Of the plate.
    side
        Of a plane, pixels of 16 bits.
    open_s, open_cpu_s
        Wall and processor time until its planes are known.
    wall_ms, cpu_ms
        Wall and processor time of a plane; None where it was but opened.
    """

    wells: int
    planes: int
    side: int
    open_s: float
    open_cpu_s: float
    wall_ms: float | None = None
    cpu_ms: float | None = None


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wells", type=int, choices=(6, 12, 24, 48, 96, 384), default=384)
    parser.add_argument("--fields", type=count, default=9, help="of each well")
    parser.add_argument("--side", type=count, default=64, help="of a plane, pixels")
    parser.add_argument("--open", action="store_true", help="open it, and no more")
    given = parser.parse_args()
    print(json.dumps(asdict(measure_plate(given.wells, given.fields, given.side, given.open))))


def measure_plate(wells: int, fields: int, side: int = 64, only_open: bool = False) -> PlateRow:
    """Write a plate, open it, and refocus it by the engine ``fake``."""
    field = np.random.default_rng(0).integers(0, 4096, (1, side, side), np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "plate.ome.zarr", Path(folder) / "out.ome.zarr"
        write_plate(source, wells, fields, lambda *place: field)
        begun = _now()
        planes = len(open_data_set(source).planes)
        row = PlateRow(wells, planes, side, *(_now() - begun).round(3))
        if only_open:
            return row
        begun = _now()
        process(source, target, open_engine("fake"), lambda done: None)
        wall_ms, cpu_ms = ((_now() - begun) * 1000 / planes).round(2)
    return replace(row, wall_ms=wall_ms, cpu_ms=cpu_ms)


def write_plate(
    path: Path,
    wells: int | tuple[int, int],
    fields: int,
    look: Look,
    channels: tuple[str, ...] = ("DAPI",),
) -> None:
    """Write a plate as an acquisition does, OME-Zarr 0.5.

    Parameters
    ----------
    path
        Ends with ``.ome.zarr``.
    wells
        A standard number of them, or rows and columns.
    fields
        Of each well.
    look
        Gives the planes of each field, all of one shape and of 16 bits.
    channels
        Names of the channels.
    """
    plate = ome_writers.Plate.from_standard_wells(wells)
    places = [
        (row, column, field)
        for row in plate.row_names
        for column in plate.column_names
        for field in range(fields)
    ]
    positions = [
        ome_writers.Position(name=str(f), plate_row=r, plate_column=c) for r, c, f in places
    ]
    height, width = look(*places[0]).shape[1:]
    settings = ome_writers.AcquisitionSettings(
        root_path=str(path),
        plate=plate,
        dimensions=(
            ome_writers.Dimension(name="p", type="position", coords=[*positions]),
            ome_writers.Dimension(name="c", type="channel", coords=list(channels)),
            *(
                ome_writers.Dimension(
                    name=name, count=count, type="space", scale=PIXEL_UM, unit="micrometer"
                )
                for name, count in (("y", height), ("x", width))
            ),
        ),
        dtype="uint16",
    )
    with ome_writers.create_stream(settings) as stream:
        for place in places:
            for plane in look(*place):
                stream.append(plane)


def _now() -> NDArray[np.float64]:
    """Read the clock of the wall and that of the processor, s."""
    return np.array([time.perf_counter(), time.process_time()])


if __name__ == "__main__":
    run_report(main)
