"""Pairs of frames out of and in focus, simulated through physical optics.

A specimen in focus (a sharp image, or a synthetic field) is imaged at a distance from focus
through one of many light paths, by one of many cameras. Everything is drawn from the seed and the
number of the pair, so pairs do not depend on workers or on the order they are made in.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from refocus.configs import Optics
from refocus.configs.training import SimulationConfig
from refocus.engine.prepare import LIMIT
from refocus.optics.defocus import convolve
from refocus.optics.normalise import Brightness, brightness
from refocus.optics.phase import phase_contrast
from refocus.optics.psf import psf
from refocus.optics.specimens import texture
from refocus.training.pairs.pool import Specimens

Field = NDArray[np.float32]

TILT_UM = 6.0
"""Most that the distance changes across a tilted pair, µm."""


class Pair(NamedTuple):
    """One example.

    Attributes
    ----------
    frame, target
        ``(1, H, W)`` ``float32``, out of focus and in focus, in network units.
    focus
        ``(3,)`` ``float32``, of the light path: distance from focus, µm at the reference optics;
        side of focus, 1 or 0; spherical aberration, waves (:class:`LightPath`). NaN: not known.
    span
        Range of the target (0.1 to 99.9 %), network units, or that of the frame, which is about 1,
        if larger: what an error is measured against. The frame's, because it may be all noise.
    """

    frame: NDArray[np.float32]
    target: NDArray[np.float32]
    focus: NDArray[np.float32]
    span: np.float32


def equivalent_um(optics: Optics, defocus_um: float, reference: Optics) -> float:
    """Distance at the reference aperture whose cone of light is as wide as this one's."""

    def slope(o: Optics) -> float:
        sine = o.na / o.immersion_index
        return sine / math.sqrt(1 - sine**2)

    return abs(defocus_um) * slope(optics) / slope(reference)


class LightPath(NamedTuple):
    """How a frame came to be out of focus, as far as it shows.

    A light path whose distance and spherical aberration both have the other sign makes the same
    picture. So the aberration is stated as negative, as that of the measured instrument is, and
    the side goes with it.

    Attributes
    ----------
    distance_um
        From focus, unsigned, µm at the reference optics.
    side
        1 on the positive side of focus, 0 on the negative one.
    spherical_waves
        Never positive.
    """

    distance_um: float = math.nan
    side: float = math.nan
    spherical_waves: float = math.nan


IN_FOCUS = LightPath(0.0)


def light_path(optics: Optics, defocus_um: float, reference: Optics) -> LightPath:
    """Describe a light path; the side is not known in focus or without aberration."""
    waves = optics.spherical_waves
    sign = -waves * defocus_um
    side = math.nan if sign == 0 else float(sign > 0)
    return LightPath(equivalent_um(optics, defocus_um, reference), side, -abs(waves))


class SimulatedPairs:
    """An endless, random-access source of simulated pairs.

    Parameters
    ----------
    specimens
        What the light paths look at.
    config
        Depths, optics, cameras.
    size
        Side of a pair, pixels.
    seed
        Decides everything.
    """

    def __init__(
        self, specimens: Specimens, config: SimulationConfig, size: int, seed: int
    ) -> None:
        self.config, self.size, self.seed = config, size, seed
        self._specimens = specimens
        rng = np.random.default_rng([seed, 0])
        self._paths = [self._draw_path(rng) for _ in range(config.psfs)]
        self._psfs = [psf(optics, distance) for optics, distance in self._paths]

    def _draw_path(self, rng: np.random.Generator) -> tuple[Optics, float]:
        """Draw optics and a distance from focus, µm."""
        c = self.config
        reach = c.defocus_um if rng.random() > c.near_fraction else c.near_um
        distance = rng.uniform(*reach) * rng.choice([-1.0, 1.0])
        spherical = (
            rng.normal(c.spherical_waves, c.spherical_spread)
            if rng.random() < c.measured_fraction
            else rng.uniform(-1.0, 1.0)
        )
        optics = c.optics.model_copy(
            update={"na": rng.uniform(*c.na), "spherical_waves": float(np.clip(spherical, -2, 2))}
        )
        return optics, float(distance)

    def __getitem__(self, number: int) -> Pair:
        """Make pair ``number``."""
        rng = np.random.default_rng([self.seed, 1, number])
        if _happens(rng, self.config.foreign_fraction):
            return self._foreign(rng)
        chosen = self._choose_path(rng)
        reach = 0 if chosen is None else self._psfs[chosen].shape[0] // 2
        margin = reach if rng.random() < 0.8 else 8
        specimen = self._place_specimen(rng, self.size + 2 * min(margin, 48))
        blurred, path = specimen, IN_FOCUS
        if chosen is not None:
            blurred, path = self._blur(rng, specimen, chosen)
        frame, target = expose(rng, blurred, specimen, self.config)
        if chosen is None:  # in focus: to be left alone, its noise included
            target = frame
        level = brightness(frame)
        if rng.random() < 0.3:  # a whole frame's brightness is not that of this crop
            level = Brightness(level.offset, level.scale * float(np.exp(rng.normal(0, 0.4))))
        inner = (len(frame) - self.size) // 2
        window = slice(inner, inner + self.size)
        return finish(frame[window, window], target[window, window], level, path)

    def _foreign(self, rng: np.random.Generator) -> Pair:
        """Make a frame of phase contrast, at any distance from focus, to be left alone."""
        distance = rng.uniform(*self.config.defocus_um) * rng.choice([-1.0, 1.0])
        light = phase_contrast((self.size, self.size), rng, self.config.optics, distance)
        frame, _ = expose(rng, light, light, self.config)
        return finish(frame, frame, brightness(frame), LightPath())

    def _choose_path(self, rng: np.random.Generator) -> int | None:
        """Choose one of the light paths; None: in focus."""
        if rng.random() < self.config.in_focus_fraction:
            return None
        return int(rng.integers(len(self._paths)))

    def _blur(
        self, rng: np.random.Generator, specimen: Field, chosen: int
    ) -> tuple[Field, LightPath]:
        """Image a specimen; now and then one side of it lies at another distance, as if tilted."""
        optics, distance = self._paths[chosen]
        blurred = convolve(specimen, self._psfs[chosen])
        path = light_path(optics, distance, self.config.optics)
        if rng.random() >= self.config.tilt_fraction:
            return blurred, path
        other_um = distance + rng.uniform(-TILT_UM, TILT_UM)
        other = light_path(optics, other_um, self.config.optics)
        ramp = np.linspace(0, 1, blurred.shape[0], dtype=np.float32)[:, None]
        mixed = (1 - ramp) * blurred + ramp * convolve(specimen, psf(optics, other_um))
        middle = LightPath(
            (path.distance_um + other.distance_um) / 2,
            path.side if path.side == other.side else math.nan,
            path.spherical_waves,
        )
        return np.asarray(mixed, np.float32), middle

    def _place_specimen(self, rng: np.random.Generator, side: int) -> Field:
        """Cut a specimen to ``(side, side)``: scaled, turned, mirrored, now and then inverted."""
        field = self._specimens.draw(rng)
        zoom = float(np.exp(rng.uniform(*np.log(self.config.zoom)))) if rng.random() < 0.5 else 1.0
        if zoom != 1.0:
            need = math.ceil(side / zoom) + 2
            field = _cut(field, rng, min(need, max(field.shape)))
            field = ndimage.zoom(field, zoom, order=1)
        field = _cut(field, rng, side)
        field = np.rot90(field, int(rng.integers(4)))
        if rng.random() < 0.5:
            field = field[:, ::-1]
        if rng.random() < self.config.inverted_fraction:
            field = np.float32(1.0) - np.clip(field, 0, 1)
        if rng.random() < 0.3:
            field = ndimage.gaussian_filter(field, rng.uniform(0.3, 0.8))
        return np.ascontiguousarray(field, dtype=np.float32)


def _cut(field: Field, rng: np.random.Generator, side: int) -> Field:
    """Take a random ``(side, side)`` window, mirroring a field that is too small."""
    short = [max(0, side - n) for n in field.shape]
    if any(short):
        field = np.pad(field, [(s // 2, s - s // 2) for s in short], mode="symmetric")
    top, left = (int(rng.integers(0, n - side + 1)) for n in field.shape)
    return field[top : top + side, left : left + side]


def expose(
    rng: np.random.Generator, blurred: Field, specimen: Field, config: SimulationConfig
) -> tuple[Field, Field]:
    """Capture the blurred field with a random camera; give the frame and the truth, in counts."""
    peak_e = math.exp(rng.uniform(*np.log(config.peak_electrons)))
    background_e = peak_e * math.exp(rng.uniform(math.log(0.003), math.log(0.3)))
    haze: Field | float = 0.0
    if rng.random() < 0.3:
        haze = rng.uniform(0, 0.3) * background_e * texture(blurred.shape, rng, len(blurred) / 5)
    electrons = np.maximum(blurred * peak_e + background_e + haze, 0.0)
    # Poisson by its Gaussian limit: peaks are far above a few electrons
    noise = rng.standard_normal(blurred.shape, dtype=np.float32)
    noise *= np.sqrt(electrons + rng.uniform(0.5, 6.0) ** 2)
    frame = electrons + noise
    truth = specimen * peak_e + background_e + haze
    if rng.random() < config.eight_bit_fraction:  # as coarse as an 8-bit export
        step = max(float(np.ptp(electrons)) / rng.uniform(60, 255), 1e-3)
        frame = np.rint(frame / step) * step
    frame, truth = frame.astype(np.float32), np.asarray(truth, dtype=np.float32)
    if _happens(rng, config.defects_fraction):  # kept by the network: they are not light
        count = int(rng.integers(1, 12))
        hot = tuple(rng.integers(0, n, count) for n in frame.shape)
        excess = np.float32(np.ptp(frame) * np.exp(rng.normal(0.5, 0.8)))
        frame[hot] += excess
        truth[hot] += excess
    if _happens(rng, config.defects_fraction):
        ceiling = np.percentile(frame, rng.uniform(80, 99.5))
        frame = np.minimum(frame, ceiling)
    return frame, truth


def _happens(rng: np.random.Generator, fraction: float) -> bool:
    """Draw only for what can happen, so that a new kind of flaw leaves old configs as they were."""
    return fraction > 0 and rng.random() < fraction


def finish(frame: Field, target: Field, level: Brightness, path: LightPath) -> Pair:
    """Put a pair into network units."""
    x, y = level.apply(frame), level.apply(target)
    over = x - np.clip(x, -LIMIT, LIMIT)  # goes around the network, as in an engine
    x, y = x - over, y - over
    low, high = np.percentile(y, (0.1, 99.9))
    return Pair(
        np.ascontiguousarray(x[None]),
        np.ascontiguousarray(y[None]),
        np.array(path, np.float32),
        np.float32(max(high - low, 1.0)),
    )
