"""A data set of any format: its planes, and how the same is written with others."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from refocus.configs import RefocusError
from refocus.configs.light_path import UNKNOWN, LightPath
from refocus.recorded.planes import About, Bands, RecordedPlane
from refocus.recorded.plate import Plate


@dataclass(frozen=True)
class Marks:
    """What is said of a result.

    Attributes
    ----------
    software
        Who made it, and with which model: a mark that the pixels are not the camera's.
    provenance
        Tells the same of some planes, by their numbers, and how far each is to be trusted.
    """

    software: str
    provenance: Callable[[Sequence[int]], dict[str, Any]]


@dataclass
class DataSet(ABC):
    """What is read, and written again.

    Attributes
    ----------
    source
        File or folder.
    planes
        Of all of it, in their order.
    unreadable
        What is in it and cannot be read, by its place among the planes.
    plate
        What it says of the plate that it is; None where it is none.
    """

    source: Path
    planes: list[RecordedPlane] = field(default_factory=list)
    unreadable: list[tuple[About, RefocusError]] = field(default_factory=list)
    plate: Plate | None = None

    suffixes: ClassVar[tuple[str, ...]] = ()
    """How the name of a result ends; nothing where that is any folder."""

    @property
    def light_path(self) -> LightPath:
        """What it states of that of its first plane; a folder, of the first that can."""
        return self.planes[0].about.light_path if self.planes else UNKNOWN

    @abstractmethod
    def write(self, target: Path, name: str, bands: Bands, marks: Marks) -> None:
        """Write the same with other pixels.

        Parameters
        ----------
        target
            What to write; it is not there.
        name
            What it will be called in the end, for files that refer to themselves.
        bands
            Pixels of each plane.
        marks
            What is said of the result.
        """

    def close(self) -> None:  # noqa: B027 (most hold nothing open)
        """Close what is held open; nothing is read any more."""
