"""A plate as its metadata name it: wells, their fields, and which of them are not there."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from refocus.configs import RefocusError
from refocus.optics.ome_zarr import metadata_of, ome_attributes, read_document
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

    def lacking(self, there: Collection[Path]) -> str:
        """Say in a line which wells and fields are not there; nothing where all are.

        Parameters
        ----------
        there
            Folders of the images that are, and of what cannot be read.
        """
        said = {well for well, _ in self.fields.values()}
        wells = [folder for folder in self.wells if folder not in said and folder not in there]
        fields = [folder for folder in self.fields if folder not in there]
        names = ["".join(self.wells[well]) for well in wells]
        places = ["".join(self.wells[self.fields[f][0]]) + f"/{f.name}" for f in fields]
        counted = (
            _listed(names, len(self.wells), "wells"),
            _listed(places, len(self.fields), "fields"),
        )
        return ", and ".join(filter(None, counted))


def read_plate(root: Path, broken: dict[Path, RefocusError]) -> Plate | None:
    """Read what a plate says of itself; None for an OME-Zarr that is none.

    Parameters
    ----------
    root
        Its folder.
    broken
        Takes what is wrong with a well, by its folder: broken metadata, or a path outside of it.

    Raises
    ------
    RefocusError
        Metadata of the plate are broken, or name a path outside of it.
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
    fields: dict[Path, tuple[Path, str]] = {}
    for well in wells:
        try:
            fields |= {field: (well, field.name) for field in _fields(well)}
        except RefocusError as error:
            broken[well] = error
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


def _listed(names: Sequence[str], count: int, what: str) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} of {count} {what} are missing ({', '.join(names[:NAMED])}{more})"
