"""The table of verdicts that refocused data carry: a line for each plane.

In an OME-Zarr it is ``tables/refocus``, laid out as ngio reads it: a generic table whose backend is
CSV (`ngio's specification <https://biovisioncenter.github.io/ngio/stable/table_specs/overview/>`_).
Beside a file it ends in ``.refocus.csv``, and in a folder it is ``refocus.csv``.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from refocus.configs.light_path import LightPath
from refocus.engine.protocol import EngineInfo
from refocus.optics.ome_zarr import is_zarr
from refocus.recorded.heat_map import draw_heat_map
from refocus.recorded.planes import About
from refocus.recorded.zarr_groups import add_attributes, attributes_of

if TYPE_CHECKING:
    from refocus.recorded.plate import Plate

NAME = "refocus"
TABLE, HEAT_MAP = ".refocus.csv", ".refocus.png"
"""End the names of what lies beside a result."""
COLUMNS = (
    *("index", "row", "column", "field", "image", "plane", "t", "c", "z", "z_um", "channel"),
    *("verdict", "distance_um", "engine", "model", "model_sha256"),
    *("pixel_size_um", "na", "immersion_index", "emission_um", "as_captured", "left_out"),
)
OF_TABLE = {
    "type": "generic_table",
    "table_version": "1",
    "backend": "csv",
    "index_key": "index",
    "index_type": "int",
}
"""What ngio needs to know of a table."""


class VerdictTable:
    """Writes a line for each plane.

    Parameters
    ----------
    path
        The file; one that is there is written anew.

    Attributes
    ----------
    plate
        Where the planes are of one: it says which well and field an image is.
    root
        Folder that images are named from.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plate: Plate | None = None
        self.root: Path | None = None
        self._count = 0
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        # csv quotes what ends its own lines, and others end theirs with \r
        lines: Any = SimpleNamespace(write=lambda line: self._file.write(f"{line[:-2]}\n"))
        self._lines = csv.DictWriter(lines, COLUMNS, restval="", lineterminator="\r\n")
        self._lines.writeheader()

    def add(self, image: Path, known: LightPath, info: EngineInfo | None, **said: Any) -> None:
        """Write the line of a plane.

        Parameters
        ----------
        image
            Folder of its image, or its file.
        known
            Of its light path.
        info
            What refocused it; None where nothing did.
        said
            Other columns.
        """
        line: dict[str, Any] = {"index": self._count, "image": image.name, **said}
        if self.root is not None:
            line["image"] = image.relative_to(self.root).as_posix()
        if self.plate is not None and image in self.plate.fields:
            well, line["field"] = self.plate.fields[image]
            line["row"], line["column"] = self.plate.wells[well]
        if info is not None:
            line["engine"] = info.name
        if info is not None and info.card is not None:
            line |= {"model": info.card.name, "model_sha256": info.card.sha256}
        for name in ("pixel_size_um", "na", "immersion_index", "emission_um"):
            line[name] = getattr(known, name) or ""
        self._lines.writerow(line)
        self._count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def columns_of(about: About, record: dict[str, Any]) -> dict[str, Any]:
    """Turn what is recorded of a plane into columns of the table.

    Parameters
    ----------
    about
        What its file says of it.
    record
        What became of it.
    """
    axes = {name: number for name, number in about.axes.items() if name in "tcz"}
    plane = " ".join(map(str, about.place)) if isinstance(about.place, tuple) else about.place
    z_um = "" if about.z_um is None else round(about.z_um, 4)
    became = {key: value for key, value in record.items() if key in COLUMNS}
    return {**became, "plane": plane, "channel": about.channel, **axes, "z_um": z_um}


def keep_table(table: VerdictTable, data: Path, target: Path) -> None:
    """Put a table where it belongs, and draw the plate, if the planes are of one.

    Parameters
    ----------
    table
        Is complete.
    data
        The planes: a file, an OME-Zarr, or a folder of files.
    target
        What they will be called; what lies beside them is named for it.
    """
    if table.plate is not None:
        lines = read_verdicts(table.path)
        picture = draw_heat_map(table.plate, lines)
        picture.save(target.with_name(target.name + HEAT_MAP))
    if data.is_file():
        table.path.replace(target.with_name(target.name + TABLE))
    elif is_zarr(data):
        _put_into_zarr(data, table.path)
    else:
        table.path.replace(data / TABLE[1:])


def read_verdicts(path: Path) -> Iterator[dict[str, str]]:
    """Give the lines of a table, by the names of :data:`COLUMNS`; empty text for what is not known.

    Parameters
    ----------
    path
        The CSV file.
    """
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _put_into_zarr(root: Path, table: Path) -> None:
    """Move a table into an OME-Zarr, beside the tables that it has; one of ours is replaced."""
    place = root / "tables" / NAME / "table.csv"
    place.parent.mkdir(parents=True, exist_ok=True)
    table.replace(place)
    listed = attributes_of(root / "tables").get("tables")
    others = [name for name in listed if name != NAME] if isinstance(listed, list) else []
    of_tables = {"tables": [*others, NAME]}
    add_attributes(root, {root / "tables": of_tables, place.parent: OF_TABLE})
