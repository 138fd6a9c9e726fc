"""A folder of images: each is written as it would be alone, and what is beside them is copied."""

import shutil
from pathlib import Path
from typing import Any

from refocus.configs import RefocusError
from refocus.configs.light_path import UNKNOWN, LightPath
from refocus.optics.images import list_images
from refocus.optics.paths import leads_inside
from refocus.recorded.data_set import DataSet, Marks
from refocus.recorded.marks import write_record
from refocus.recorded.planes import About, Bands, log
from refocus.recorded.png import Png
from refocus.recorded.tiff import Tiff

RECORD = "refocus.json"
INDEX = "NDTiff.index"
"""Says where in its files the pages of an NDTiff lie."""


class Folder(DataSet):
    """A folder of images; one that cannot be opened is not among its planes.

    Parameters
    ----------
    source
        The folder.
    channels
        Those that are to be refocused; all where none is named.

    Raises
    ------
    RefocusError
        It holds no image.
    """

    def __init__(self, source: Path, channels: tuple[str, ...] = ()) -> None:
        super().__init__(source)
        self._images = list_images(source)
        self._files: dict[Path, tuple[DataSet, int]] = {}
        for image in self._images:
            try:
                file = open_file(image, channels)
            except RefocusError as error:
                self.unreadable.append((About(image.name, image.name, image=image), error))
                continue
            self._files[image] = file, len(self.planes)
            self.planes += file.planes

    @property
    def light_path(self) -> LightPath:
        """What its first TIFF states; a PNG can state nothing."""
        files = (file for file, _ in self._files.values())
        return next((file.light_path for file in files if isinstance(file, Tiff)), UNKNOWN)

    def write(self, target: Path, name: str, bands: Bands, marks: Marks) -> None:
        """Write the same with other pixels; an image without a plane that was read is left out."""
        target.mkdir()
        why = {about.name: str(error) for about, error in self.unreadable}
        records: list[dict[str, Any]] = []
        for image in self._images:
            numbers = range(0)
            if image in self._files:
                file, begins = self._files[image]
                numbers = range(begins, begins + len(file.planes))
            record = {**marks.provenance(numbers), "source": image.name}
            if image.name in why:
                record["planes"] = [{"plane": image.name, "left_out": why[image.name]}]
            records.append(record)
            if all("left_out" in plane for plane in record["planes"]):
                continue
            file.write(target / image.name, image.name, _of_file(bands, begins), marks)
        self._copy_others(target)
        write_record(target / RECORD, records)

    def _copy_others(self, target: Path) -> None:
        for other in sorted(self.source.iterdir()):
            if other in self._images or other.name.startswith("."):
                continue
            if other.name == INDEX:
                log.warning("%s: not copied: pages lie elsewhere in the result", other)
                continue
            if other.is_dir() or not leads_inside(self.source, other):
                what = "a folder" if other.is_dir() else "a link that leads out of the folder"
                log.warning("%s: not copied: is %s", other, what)
                continue
            shutil.copy2(other, target / other.name)


def _of_file(bands: Bands, begins: int) -> Bands:
    return Bands(
        lambda plane: bands.rows(begins + plane), lambda plane: bands.stays(begins + plane)
    )


def open_file(source: Path, channels: tuple[str, ...] = ()) -> DataSet:
    """Open an image file.

    Raises
    ------
    RefocusError
        It is none that is read.
    """
    if source.suffix.lower() in Tiff.suffixes:
        return Tiff(source, channels)
    if source.suffix.lower() in Png.suffixes:
        return Png(source)
    raise RefocusError(f"{source}: not a format that is read; give .ome.zarr, .tif or .png")
