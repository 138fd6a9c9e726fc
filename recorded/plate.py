"""A plate as its metadata name it: wells, their fields, and which of them are not there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from refocus.configs import RefocusError
from refocus.optics.ome_zarr import ZARR_METADATA, metadata_of, ome_attributes, read_document
from refocus.optics.paths import inside

NAMED = 4
"""How many of the wells that are missing are named."""


@dataclass(frozen=True)
class Plate:
    """What an OME-Zarr says of the plate that it is.

    Attributes
    ----------
    name
        Empty where it has none.
    rows, columns
        Names, in order.
    wells
        Row and column of each well that its metadata name, by its folder.
    fields
        Well and name of each field that the wells name, by its folder.
    """

    name: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    wells: dict[Path, tuple[str, str]]
    fields: dict[Path, tuple[Path, str]]

    def lacking(self) -> str:
        """Say in a line which wells and fields are not there; nothing where all are."""
        wells = [folder for folder in self.wells if not _is_group(folder)]
        fields = [folder for folder in self.fields if not _is_group(folder)]
        names = ["".join(self.wells[well]) for well in wells]
        places = ["".join(self.wells[self.fields[f][0]]) + f"/{f.name}" for f in fields]
        counted = (
            _listed(names, len(self.wells), "wells"),
            _listed(places, len(self.fields), "fields"),
        )
        return ", and ".join(filter(None, counted))


def read_plate(root: Path) -> Plate | None:
    """Read what a plate says of itself; None for an OME-Zarr that is none.

    Raises
    ------
    RefocusError
        Metadata of the plate or of a well are broken, or name a path outside of it.
    """
    path = _document(root)
    if path is None:
        return None
    stated, version = ome_attributes(path, read_document(path))
    if not isinstance(stated, dict) or "plate" not in stated:
        return None
    with metadata_of(path, "plate"):
        plate = version.PlateDef.model_validate(stated["plate"])
    rows = tuple(row.name for row in plate.rows)
    columns = tuple(column.name for column in plate.columns)
    wells = {
        inside(root, well.path, path): (rows[well.rowIndex], columns[well.columnIndex])
        for well in plate.wells
    }
    fields = {field: (well, field.name) for well in wells for field in _fields(well)}
    return Plate(plate.name or "", rows, columns, wells, fields)


def _fields(well: Path) -> Iterable[Path]:
    path = _document(well)
    if path is None:
        return []
    stated, version = ome_attributes(path, read_document(path))
    if not isinstance(stated, dict) or "well" not in stated:
        raise RefocusError(f"{path}: the plate names it as a well, and it does not say its fields")
    with metadata_of(path, "well"):
        found = version.WellDef.model_validate(stated["well"])
    return [inside(well, field.path, path) for field in found.images]


def _document(group: Path) -> Path | None:
    paths = (group / name for name in ("zarr.json", ".zattrs"))
    return next((path for path in paths if path.is_file()), None)


def _is_group(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ZARR_METADATA)


def _listed(names: Sequence[str], count: int, what: str) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} of {count} {what} are missing ({', '.join(names[:NAMED])}{more})"
