"""A slide in a format of its scanner, read with OpenSlide; the result is an OME-Zarr.

A slide is an image of colours, each of which is a plane, if the user says so. What a scanner keeps
beside it (label, barcode, notes) may name a patient, and is not taken along.
"""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from yaozarrs import v05

from refocus.configs import RefocusError, reason_of
from refocus.configs.light_path import PIXEL_UM, LightPath
from refocus.optics.ome_zarr import one_size
from refocus.recorded.colours import COLOURS, check_chosen
from refocus.recorded.data_set import DataSet, Marks
from refocus.recorded.planes import About, Bands, Plane, RecordedPlane, check_pixels
from refocus.recorded.zarr_groups import add_attributes
from refocus.recorded.zarr_writer import UnderWay, write_image

PIXELS = {".dcm": (".dcm",), ".vms": (".jpg", ".opt"), ".vmu": (".ngr", ".opt")}
"""How the names of files end that hold pixels beside such a one."""
KEPT = 1 << 28
"""Bytes of decoded tiles that are kept while their neighbours are read."""
CHUNK = 512
RGB = COLOURS[:3]
SHOWN = ("FF0000", "00FF00", "0000FF")


class Slide(DataSet):
    """A slide of red, green and blue.

    Parameters
    ----------
    source
        The file that OpenSlide opens.
    channels
        Those that are to be refocused.

    Raises
    ------
    RefocusError
        The extra is missing, the file is not readable, or no colour is chosen.
    """

    suffixes = (".zarr",)
    endings = (
        *(".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu"),
        *(".czi", ".dcm"),
    )
    """How the names of such files end; generic TIFFs are read as such."""

    def __init__(self, source: Path, channels: tuple[str, ...] = ()) -> None:
        super().__init__(source)
        self._slide = _open(source)
        try:
            self._describe(source, channels)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def _describe(self, source: Path, channels: tuple[str, ...]) -> None:
        said = self._slide.properties
        self._sizes_um = tuple(_number(said, f"openslide.mpp-{axis}") for axis in "yx")
        self._levels = [(height, width) for width, height in self._slide.level_dimensions]
        check_pixels(self._levels[0], np.uint8, str(source))
        height, width = self._levels[0]
        check_chosen(RGB, channels, f"{source}: a slide of {width}×{height} pixels")
        self._background = background(said.get("openslide.background-color", ""))
        for number, name in enumerate(RGB):
            about = About(
                f"{source.name}, {name}",
                (number,),
                light_path=LightPath(pixel_size_um=self._pixel_size_um()),
                channel=name,
                position=source.name,
                image=source,
                axes={"c": number},
            )
            read = partial(self._read, number)
            self.planes.append(RecordedPlane(about, self._levels[0], np.dtype(np.uint8), read))

    def write(self, target: Path, name: str, bands: Bands, marks: Marks) -> None:
        """Write an OME-Zarr 0.5 with levels of the same sizes."""
        from yaozarrs.write.v05 import prepare_image

        shapes = [(len(RGB), *level) for level in self._levels]
        _, arrays = prepare_image(
            target,
            v05.Image(
                multiscales=[self._multiscale(name.partition(".")[0])],
                omero=v05.Omero(channels=[_shown(*one) for one in zip(RGB, SHOWN, strict=True)]),
            ),
            [(shape, np.dtype(np.uint8)) for shape in shapes],
            chunks=(1, CHUNK, CHUNK),
            writer="tensorstore",
        )
        numbers = np.arange(len(RGB))
        beside = target.with_name(f"{target.name}.rows")
        with UnderWay() as under_way:
            write_image(list(arrays.values()), numbers, bands, beside, under_way)
        made = marks.provenance(range(len(RGB)))
        said = {"refocus": {**made, "scanner": self._scanner()}}
        add_attributes(target, {target: said})

    def _read(self, colour: int, rows: slice, columns: slice) -> Plane:
        size = columns.stop - columns.start, rows.stop - rows.start
        try:
            region = self._slide.read_region((columns.start, rows.start), 0, size)
        except _error() as error:
            where = f"{self.source}, rows {rows.start} to {rows.stop}"
            raise RefocusError(
                f"{where}: not readable ({reason_of(error)}); replace the file"
            ) from error
        pixels: Plane = np.asarray(region)
        light, there = pixels[..., colour], pixels[..., 3]
        if there.min() == 255:
            return np.ascontiguousarray(light)
        # where the scanner has not been
        mixed = light * (there / 255) + self._background[colour] * (1 - there / 255)
        whole: Plane = np.rint(mixed).astype(np.uint8)
        return whole

    def _pixel_size_um(self) -> float:
        size = one_size([*reversed(self._sizes_um)])
        return size if PIXEL_UM[0] < size < PIXEL_UM[1] else 0.0

    def _multiscale(self, name: str) -> v05.Multiscale:
        sizes = self._sizes_um if all(self._sizes_um) else (1.0, 1.0)
        unit = "micrometer" if all(self._sizes_um) else None
        datasets = []
        for number, level in enumerate(self._levels):
            scale = [
                size * full / length
                for size, full, length in zip(sizes, self._levels[0], level, strict=True)
            ]
            change = v05.ScaleTransformation(scale=[1.0, *scale])
            datasets.append(v05.Dataset(path=str(number), coordinateTransformations=[change]))
        y, x = (v05.SpaceAxis(name=axis, unit=unit) for axis in "yx")
        return v05.Multiscale(name=name, axes=[v05.ChannelAxis(name="c"), y, x], datasets=datasets)

    def _scanner(self) -> dict[str, Any]:
        said = self._slide.properties
        power = _number(said, "openslide.objective-power")
        return {"vendor": said.get("openslide.vendor", ""), "objective_power": power or None}


def files_beside(source: Path) -> list[Path]:
    """Name the files that may hold pixels of a slide beside the one that is opened."""
    ending = source.suffix.lower()
    if ending == ".mrxs":
        folder = source.with_suffix("")
        return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    there = source.parent.iterdir() if ending in PIXELS else ()
    return [
        path
        for path in there
        if path.suffix.lower() in PIXELS[ending] and path != source and path.is_file()
    ]


def _open(source: Path) -> Any:
    try:
        import openslide
    except ImportError as error:  # the package, or the library that it loads
        raise RefocusError(
            f"{source}: slides of scanners are read with OpenSlide; install the extra: "
            "pip install 'refocus-live[openslide]'"
        ) from error
    try:
        slide = openslide.OpenSlide(source)
    except openslide.OpenSlideError as error:
        raise RefocusError(
            f"{source}: not a slide that OpenSlide reads ({reason_of(error)}); is all of it there, "
            "with the folder that some formats have beside the file?"
        ) from error
    slide.set_cache(openslide.OpenSlideCache(KEPT))
    return slide


def _error() -> type[Exception]:
    import openslide

    error: type[Exception] = openslide.OpenSlideError
    return error


def background(said: str) -> Plane:
    """Read the colour where a scanner has not been, ``(3,)``; white where it is none."""
    with suppress(ValueError):
        colour = bytes.fromhex(said)
        if len(colour) == len(RGB):
            return np.frombuffer(colour, np.uint8)
    return np.full(len(RGB), 255, np.uint8)


def _number(said: Any, name: str) -> float:
    """Read a number of a slide's properties; 0.0 where it has none."""
    with suppress(ValueError):
        return float(said.get(name, 0.0))
    return 0.0


def _shown(colour: str, shown: str) -> v05.OmeroChannel:
    window = v05.OmeroWindow(min=0, max=255, start=0, end=255)
    return v05.OmeroChannel(label=colour, color=shown, window=window)
