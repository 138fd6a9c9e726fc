"""A microscope that images a specimen it makes up, or a folder of sharp images.

Everything is known of its frames: how far from focus each was, and what it would have been in
focus. It keeps up with 100 frames per second at 2048².

>>> with SimulatedMicroscope(frame_shape=(64, 64), z_um=6.0) as microscope:
...     microscope.core.mda.run(microscope.sequence(3))
...     round(microscope.truth(2).z_um)
6
"""

from pathlib import Path

import numpy as np

from refocus.acquisition.microscopes.field import Light, SpecimenField
from refocus.acquisition.microscopes.virtual import VirtualMicroscope
from refocus.configs import Optics, RefocusError
from refocus.optics.camera import CameraModel
from refocus.optics.images import list_images, read_image
from refocus.optics.specimens import nuclei


class SimulatedMicroscope(VirtualMicroscope):
    """A fluorescence microscope with everything that its users' scripts expect.

    Parameters
    ----------
    frame_shape
        Height and width of the sensor, pixels; by default those of the first image of
        ``specimen``, or 512 × 512.
    bit_depth
        Significant bits of a pixel: 8 gives ``uint8``, more ``uint16``.
    optics
        The light path; its ``pixel_size_um`` is the core's.
    camera
        The camera; by default one that suits ``bit_depth``, which it overrules.
    specimen
        A folder of images in focus, one field of view each, side by side along x in
        lexicographic order and over again; by default nuclei, no two fields alike.
    drift_um_per_min
        How fast the focal plane moves up, µm/min, from the moment of switching on.
    tilt_um_per_mm
        How much the focal plane rises along x, µm per mm.
    uneven_um
        Standard deviation of its height from field to field, µm: the bottoms of wells.
    z_um
        Where the focus stage stands at the start, µm. Focus is at 0 then, at x = 0.
    fps
        Frames per second of the camera; None for as fast as it can.
    electrons_per_ms
        Photo-electrons that the brightest structures make in 1 ms of exposure.
    seed
        Of the nuclei and the noise.

    Raises
    ------
    RefocusError
        ``specimen`` is no folder of readable monochrome images, or a setting makes no sense.
    """

    def __init__(
        self,
        *,
        frame_shape: tuple[int, int] | None = None,
        bit_depth: int = 16,
        optics: Optics | None = None,
        camera: CameraModel | None = None,
        specimen: Path | None = None,
        drift_um_per_min: float = 0.0,
        tilt_um_per_mm: float = 0.0,
        uneven_um: float = 0.0,
        z_um: float = 0.0,
        fps: float | None = None,
        electrons_per_ms: float = 300.0,
        seed: int = 0,
    ) -> None:
        self.optics = optics or Optics()
        self.camera = camera or _camera(bit_depth)
        folder = _Folder(specimen) if specimen else None
        shape = frame_shape or (folder.shape if folder else (512, 512))
        if min(shape) < 1:
            raise RefocusError(f"frame_shape: {shape} is no size of a frame; give (height, width)")

        def light(number: int) -> Light:
            if folder:
                return folder.light(number, shape)
            rng = np.random.default_rng([seed, 0, number % 2**32])
            return nuclei(shape, rng, pixel_size_um=self.optics.pixel_size_um)

        def height_um(number: int) -> float:
            along_mm = number * shape[1] * self.optics.pixel_size_um / 1000
            rng = np.random.default_rng([seed, 2, number % 2**32])
            # the first field is where its user has focused
            uneven = uneven_um * rng.standard_normal() if number else 0.0
            return float(tilt_um_per_mm * along_mm + uneven)

        super().__init__(
            SpecimenField(
                light,
                shape,
                optics=self.optics,
                camera=self.camera,
                electrons_per_ms=electrons_per_ms,
                drift_um_per_min=drift_um_per_min,
                height_um=height_um,
                seed=seed,
            ),
            pixel_size_um=self.optics.pixel_size_um,
            z_um=z_um,
            fps=fps,
        )


class _Folder:
    """Sharp images as specimens."""

    def __init__(self, folder: Path) -> None:
        self._files = list_images(folder)
        height, width = read_image(self._files[0]).shape
        self.shape = (height, width)

    def light(self, number: int, shape: tuple[int, int]) -> Light:
        """Give image ``number``, over and over, cropped or mirrored to ``shape``, from 0 to 1."""
        image = read_image(self._files[number % len(self._files)]).astype(np.float32)
        for axis, size in enumerate(shape):
            surplus = image.shape[axis] - size
            if surplus > 0:
                keep = slice(surplus // 2, surplus // 2 + size)
                image = image[keep] if axis == 0 else image[:, keep]
            elif surplus < 0:
                margins = [(0, 0), (0, 0)]
                margins[axis] = (-surplus // 2, -surplus - (-surplus // 2))
                image = np.pad(image, margins, mode="symmetric")
        low, high = np.percentile(image, (0.1, 99.9))
        return np.asarray(np.maximum(image - low, 0) / max(high - low, 1.0), dtype=np.float32)


def _camera(bit_depth: int) -> CameraModel:
    if not 8 <= bit_depth <= 16:
        raise RefocusError(f"bit_depth: {bit_depth} is not between 8 and 16")
    if bit_depth == 16:
        return CameraModel()
    # the same light fills the same part of a smaller range
    full = 1 << bit_depth
    return CameraModel(bit_depth=bit_depth, offset=full / 32, electrons_per_count=4000.0 / full)
