"""A microscope whose camera captures the images of a folder, one after the other.

>>> with ReplayMicroscope(Path("frames"), reference=Path("sharp")) as microscope:
...     microscope.core.mda.run(microscope.sequence())
...     microscope.truth(0).source
'a01.png'
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import useq
from numpy.typing import NDArray

from refocus.acquisition.microscopes.scene import Moment, Pixels, Truth
from refocus.acquisition.microscopes.virtual import VirtualMicroscope
from refocus.configs import Optics, RefocusError
from refocus.optics.images import list_images, read_image

HELD_BYTES = 512 << 20
"""Decoded images kept in memory; the rest are read again when their turn comes."""


class ReplayMicroscope(VirtualMicroscope):
    """A microscope that captures recorded frames, bit for bit.

    Frame ``i`` of a run is file ``i`` in lexicographic order; after the last the first comes
    again. The camera's tag ``source`` names the file. Stages can be moved and change nothing.

    Parameters
    ----------
    frames
        Folder of monochrome images of one size and one dtype.
    reference
        Folder that holds their partners in focus under the same names; some may be missing.
    fps
        Frames per second of the camera; None for as fast as it can.
    optics
        The light path they were taken with; its ``pixel_size_um`` is the core's.

    Raises
    ------
    RefocusError
        Naming the file: an image that cannot be read, has another size or dtype than the first,
        or several channels. Naming the folder: it is missing or empty, or no reference belongs
        to any frame.
    """

    def __init__(
        self,
        frames: Path,
        reference: Path | None = None,
        fps: float | None = None,
        *,
        optics: Optics | None = None,
    ) -> None:
        self.optics = optics or Optics()
        self._recording = _Recording(Path(frames), Path(reference) if reference else None)
        super().__init__(self._recording, pixel_size_um=self.optics.pixel_size_um, fps=fps)

    @property
    def sources(self) -> list[str]:
        """File names in the order they are captured."""
        return [path.name for path in self._recording.files]

    def sequence(self, frames: int | None = None) -> useq.MDASequence:
        """Describe a run of so many frames, by default one per image."""
        return super().sequence(len(self.sources) if frames is None else frames)


class _Recording:
    """A folder of frames, as a :class:`~refocus.acquisition.microscopes.scene.Scene`."""

    def __init__(self, folder: Path, reference: Path | None) -> None:
        self.files = list_images(folder)
        self._held: dict[Path, Pixels] = {}
        first = read_image(self.files[0])
        self._shape, self._dtype = (first.shape[0], first.shape[1]), first.dtype
        room = HELD_BYTES
        for path in self.files:  # every one, now: a run must not stumble over a bad file
            pixels = self._checked(path)
            room -= pixels.nbytes
            if room >= 0:
                self._held[path] = pixels
        self._partners: dict[str, Path] = {}
        if reference is not None:
            names = {path.name for path in self.files}
            self._partners = {p.name: p for p in list_images(reference) if p.name in names}
            if not self._partners:
                raise RefocusError(
                    f"{reference}: no image has the name of a frame in {folder}; "
                    "give each the name of its frame"
                )
            for path in self._partners.values():
                self._checked(path)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of every frame, pixels."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """``uint8`` or ``uint16``."""
        return self._dtype

    def expect(self, first: Moment, z_um: Sequence[float], seconds: float) -> None:
        """Do nothing: the frames are there."""

    def expose(self, moment: Moment, out: NDArray[Any]) -> str:
        """Copy the file's pixels into ``out`` and give its name."""
        path = self._file(moment)
        x, y, width, height = moment.roi
        out[...] = self._pixels(path)[y : y + height, x : x + width]
        return path.name

    def truth(self, moment: Moment) -> Truth:
        """Tell the file's name, and its partner in focus if there is one."""
        source = self._file(moment).name
        in_focus: Pixels | None = None
        if source in self._partners:
            x, y, width, height = moment.roi
            in_focus = self._checked(self._partners[source])[y : y + height, x : x + width]
        return Truth(moment.capture, None, in_focus, source)

    def _file(self, moment: Moment) -> Path:
        return self.files[moment.capture % len(self.files)]

    def _pixels(self, path: Path) -> Pixels:
        held = self._held.get(path)
        return self._checked(path) if held is None else held

    def _checked(self, path: Path) -> Pixels:
        pixels = read_image(path)
        if pixels.shape != self._shape or pixels.dtype != self._dtype:
            height, width = pixels.shape
            raise RefocusError(
                f"{path}: is {width}×{height} {pixels.dtype}, but {self.files[0].name} is "
                f"{self._shape[1]}×{self._shape[0]} {self._dtype}; "
                "all frames and references need one size and one dtype"
            )
        return pixels
