"""What the simulated camera sees: a specimen out of focus, and the camera's noise.

Drawing Poisson noise for a frame of 2048² takes a third of a second, and blurring it another;
a camera of 100 frames per second has ten milliseconds. So both are done beforehand:

- The specimen is blurred once for each step of distance from focus, kept as two integer planes
  (mean counts, and noise in counts as fixed point), and thrown away when memory runs short.
- One stretch of Gaussian noise is drawn at the start. Each frame takes it from another place,
  so that no two frames share a pixel's noise, and scales it by the second plane, so that
  bright pixels are noisier: ``frame = mean + (spread × noise >> shift)``.

A frame is thus at most half a step from where the truth says it is: 0.13 µm near focus, where
the depth of field is over 1 µm, and 0.5 µm far from it.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refocus.acquisition.microscopes.scene import FIELDS_HELD, Moment, Truth
from refocus.configs import Optics
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import convolve
from refocus.optics.psf import psf

Light = NDArray[np.float32]
"""``(H, W)``: light of a specimen in focus, 0 the background, about 1 the brightest."""

NOISE_SCALE = 16  # fixed point of the noise: units per standard deviation
NOISE_REACH = 4.5  # standard deviations at which the noise is cut off
NOISE_SPARE = 1 << 20  # how many places a frame may take its noise from
SPREAD_LIMIT = int(32767 / (NOISE_SCALE * NOISE_REACH))  # so that spread × noise fits 16 bits
BLOCK = 1 << 18  # pixels worked on at a time, so that they stay in the processor's cache
PLANES_BYTES = 512 << 20


@dataclass(frozen=True, eq=False)
class _Plane:
    """One distance from focus, ready to be exposed."""

    mean: NDArray[np.int16]  # counts, uint16 seen as int16: sums wrap around correctly
    spread: NDArray[np.int16]  # standard deviation of the noise, counts × 2**places
    places: int


class SpecimenField:
    """A specimen seen through a microscope, as a ``Scene``.

    Fields of view lie side by side along x; the specimen stage chooses between them.

    Parameters
    ----------
    light
        Gives the light of the specimen in field ``i``, ``(H, W)`` of the sensor's size.
    shape
        Height and width of the sensor, pixels.
    optics, camera
        The light path, and the camera at its end.
    electrons_per_ms
        Photo-electrons that light 1 makes in 1 ms.
    drift_um_per_min
        How fast the focal plane moves away, µm/min: after a minute the stage must be that much
        higher to be in focus.
    height_um
        Gives the height of the focal plane in field ``i``, µm: of a tilted slide, of a plate.
    background
        Light that comes from everywhere, 1 as bright as the brightest structures.
    shadow
        ``(H, W)``, from 0 to 1: how much of the light reaches each pixel. Dust on the camera, and
        uneven light: the same wherever the stages are.
    seed
        Of the noise.
    """

    def __init__(
        self,
        light: Callable[[int], Light],
        shape: tuple[int, int],
        *,
        optics: Optics,
        camera: CameraModel,
        electrons_per_ms: float = 300.0,
        drift_um_per_min: float = 0.0,
        height_um: Callable[[int], float] = lambda field: 0.0,
        background: float = 0.0,
        shadow: Light | None = None,
        seed: int = 0,
    ) -> None:
        self._light_of = light
        self._height_um = height_um
        self._background = background
        self._shadow = shadow
        self._shape = shape
        self._optics = optics
        self._camera = camera
        self._electrons_per_ms = electrons_per_ms
        self._drift_um_per_s = drift_um_per_min / 60.0
        self._rng = np.random.default_rng([seed, 1])
        self._noise = _draw_noise(self._rng, shape[0] * shape[1] + NOISE_SPARE)
        self._lock = Lock()
        self._lights: OrderedDict[int, Light] = OrderedDict()
        self._planes: OrderedDict[tuple[int, float, float], _Plane] = OrderedDict()
        self._room = max(2, PLANES_BYTES // (4 * shape[0] * shape[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the sensor, pixels."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """``uint8`` or ``uint16``."""
        return self._camera.dtype

    def defocus_um(self, moment: Moment) -> float:
        """Distance of the stage from focus at a moment, µm."""
        return moment.z_um - self._focus_um(moment)

    def _focus_um(self, moment: Moment) -> float:
        """Where the stage would be in focus, µm."""
        height_um = self._height_um(self._number(moment))
        return height_um + self._drift_um_per_s * moment.seconds

    def expect(self, first: Moment, z_um: Sequence[float], seconds: float) -> None:
        """Blur the specimen for every distance that is coming, as far as memory goes."""
        wanted: dict[float, None] = {}
        for z in z_um:
            near = z - self._focus_um(first)
            reach = self._drift_um_per_s * seconds
            for part in np.linspace(0.0, 1.0, int(abs(reach) / 0.25) + 2 if reach else 1):
                wanted[self._step(near - part * reach)] = None
        for step in list(wanted)[: self._room]:
            self._plane(self._number(first), step, first.exposure_ms)

    def expose(self, moment: Moment, out: NDArray[Any]) -> str:
        """Fill ``out`` with what the camera sees."""
        step = self._step(self.defocus_um(moment))
        plane = self._plane(self._number(moment), step, moment.exposure_ms)
        x, y, width, height = moment.roi
        mean = plane.mean[y : y + height, x : x + width]
        spread = plane.spread[y : y + height, x : x + width]
        start = int(self._rng.integers(NOISE_SPARE))
        noise = self._noise[start : start + height * width].reshape(height, width)
        shift = NOISE_SCALE.bit_length() - 1 + plane.places
        rows = max(1, BLOCK // width)
        narrow = out.dtype != np.uint16
        for top in range(0, height, rows):
            part = slice(top, top + rows)
            target = np.empty_like(mean[part]) if narrow else out[part].view(np.int16)
            np.multiply(spread[part], noise[part], out=target)
            np.right_shift(target, shift, out=target)
            np.add(target, mean[part], out=target)
            if narrow:
                np.copyto(out[part], target, casting="unsafe")
        return ""

    def truth(self, moment: Moment) -> Truth:
        """Tell the distance from focus, and the frame in focus without noise."""
        x, y, width, height = moment.roi
        # what a microscope shows in focus is the specimen through its optics, not the specimen
        light = self._imaged(self._light(self._number(moment)), 0.0)[y : y + height, x : x + width]
        electrons = light * (self._electrons_per_ms * moment.exposure_ms)
        return Truth(moment.capture, self.defocus_um(moment), self._camera.digitise(electrons))

    def _number(self, moment: Moment) -> int:
        return round(moment.x_um / (self._shape[1] * self._optics.pixel_size_um))

    def _step(self, defocus_um: float) -> float:
        """Nearest distance that the specimen is blurred for, µm."""
        away = abs(defocus_um)
        step = 0.25 if away < 4 else 0.5 if away < 16 else 1.0
        near = round(defocus_um / step) * step
        # without spherical aberration both sides of focus look the same
        aberrated = self._optics.spherical_waves or self._optics.depth_um
        return near if aberrated else abs(near)

    def _imaged(self, light: Light, defocus_um: float) -> Light:
        imaged = convolve(light, psf(self._optics, defocus_um))
        imaged += self._background
        if self._shadow is not None:
            imaged *= self._shadow
        return imaged

    def _light(self, number: int) -> Light:
        with self._lock:
            return self._recall_light(number)

    def _recall_light(self, number: int) -> Light:
        if number not in self._lights:
            self._lights[number] = self._light_of(number)
            if len(self._lights) > FIELDS_HELD:
                self._lights.popitem(last=False)
        self._lights.move_to_end(number)
        return self._lights[number]

    def _plane(self, number: int, step: float, exposure_ms: float) -> _Plane:
        key = (number, step, exposure_ms)
        with self._lock:
            if key not in self._planes:
                blurred = self._imaged(self._recall_light(number), step)
                blurred *= self._electrons_per_ms * exposure_ms
                self._planes[key] = _ready(blurred, self._camera)
                if len(self._planes) > self._room:
                    self._planes.popitem(last=False)
            self._planes.move_to_end(key)
            return self._planes[key]


def _ready(electrons: Light, camera: CameraModel) -> _Plane:
    """Turn mean electrons into the two integer planes."""
    np.maximum(electrons, 0.0, out=electrons)
    spread = np.sqrt(electrons + camera.read_noise_e**2) / camera.electrons_per_count
    mean = np.clip(electrons / camera.electrons_per_count + camera.offset, 0.0, camera.ceiling)
    # noise never leaves the camera's range: a saturated pixel has none
    room = np.minimum(mean, np.maximum(camera.ceiling - 1.0 - mean, 0.0)) / NOISE_REACH
    np.minimum(np.minimum(spread, room), SPREAD_LIMIT, out=spread)
    places = min(8, int(np.log2(SPREAD_LIMIT / max(float(spread.max()), 1.0))))
    fixed = np.floor(spread * 2**places).astype(np.int16)
    # the shift to the right rounds down, by half a count on average
    mean += np.where(fixed > 0, 0.5, 0.0)
    return _Plane(np.rint(mean).astype(np.uint16).view(np.int16), fixed, places)


def _draw_noise(rng: np.random.Generator, count: int) -> NDArray[np.int16]:
    noise = rng.standard_normal(count, dtype=np.float32)
    np.clip(noise, -NOISE_REACH, NOISE_REACH, out=noise)
    return np.rint(noise * NOISE_SCALE).astype(np.int16)
