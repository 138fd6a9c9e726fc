"""Frames of another pixel size than the model was trained for.

A frame is brought to the model's pixel size and refocused there; what the network *changed* is
brought back and added to the captured frame. What resampling loses was then never taken away.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from refocus.engine.light_path.sight import Sight, told
from refocus.engine.prepare import SMALLEST, check_frame, prepare, warm_up_frame
from refocus.engine.protocol import (
    UNKNOWN,
    Engine,
    EngineError,
    EngineInfo,
    Frame,
    LightPath,
    Refocused,
    Ticket,
    log,
)
from refocus.engine.trust.judgement import BLANK
from refocus.engine.trust.structure import shows_structure

LARGEST_FACTOR = 8.0


def match_pixel_size(engine: Engine, pixel_size_um: float) -> Engine:
    """Let an engine work on frames of this pixel size.

    Parameters
    ----------
    engine
        Open; it is closed with the one given back.
    pixel_size_um
        Of the camera at the specimen; 0.0 where it is not known.

    Returns
    -------
    Engine
        The same one where the size is not known, the model states none, or the two differ by at
        most 10 %; otherwise one that resamples, and a warning in the log ``refocus.engine``.

    Raises
    ------
    EngineError
        The size is negative or not a number, or over eight times off.
    """
    if not math.isfinite(pixel_size_um) or pixel_size_um < 0:
        raise EngineError(f"pixel size {pixel_size_um} µm: a positive number is needed")
    card = engine.info.card
    if card is None or pixel_size_um == 0.0:
        return engine
    if card.takes_pixels_of(pixel_size_um):
        return engine
    factor = pixel_size_um / card.optics.pixel_size_um
    if not 1 / LARGEST_FACTOR <= factor <= LARGEST_FACTOR:
        raise EngineError(
            f"pixel size {pixel_size_um:g} µm: the model {card.name} is for "
            f"{card.optics.pixel_size_um:g} µm, too far off to resample; "
            "check the pixel size configuration, or take another model"
        )
    log.warning(
        "pixels of %g µm, and the model %s is for %g µm: frames are resampled to it and the "
        "correction back; a model trained for your objective would do better",
        pixel_size_um,
        card.name,
        card.optics.pixel_size_um,
    )
    return ResamplingEngine(engine, factor)


def match_sampling(engine: Engine, light_path: LightPath) -> Engine:
    """Let a model of any objective work on what it was not trained for.

    Parameters
    ----------
    engine
        Open, of a model that states the sampling and the aperture it was trained for.
    light_path
        As far as it is known.

    Returns
    -------
    Engine
        The same one where nothing is known or all is within its range. Otherwise a warning in the
        log ``refocus.engine``; and where the pixels are finer than trained for, one that resamples.

    Raises
    ------
    EngineError
        They are far finer than any optics need: something that is told is wrong.
    """
    card = engine.info.card
    sampling, aperture = told(light_path)
    if card is None or card.sampling is None or card.aperture is None or not sampling:
        return engine
    finest, coarsest = card.sampling
    if finest <= sampling <= coarsest and card.aperture[0] <= aperture <= card.aperture[1]:
        return engine
    log.warning(
        "sampling %.2f (pixel size × NA / wavelength) and aperture %.2f (NA / index): the model %s "
        "was trained for %g to %g and %g to %g, so its results may be unfamiliar",
        sampling,
        aperture,
        card.name,
        *card.sampling,
        *card.aperture,
    )
    if sampling >= finest:
        return engine
    factor = sampling / (2 * finest)
    if factor < 1 / LARGEST_FACTOR:
        raise EngineError(
            f"sampling {sampling:.2g} (pixel size × NA / wavelength): pixels far finer than any "
            "light needs; check the pixel size, the aperture and the emission"
        )
    return ResamplingEngine(engine, factor)


class ResamplingEngine(Engine):
    """Refocuses at another sampling.

    Parameters
    ----------
    engine
        The one that works at the model's pixel size.
    factor
        Pixels of the model per pixel of the camera, along each axis.
    """

    def __init__(self, engine: Engine, factor: float) -> None:
        self._engine = engine
        self.factor = factor

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        return self._engine.info

    @property
    def sight(self) -> Sight | None:
        """What shows frames to the network; None where it sees the frame alone."""
        return self._engine.sight

    @property
    def overlap(self) -> int:
        """How many frames may be under way at once."""
        return self._engine.overlap

    def warm_up(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Warm up for the size that frames of this shape are brought to."""
        self._engine.warm_up(self._seen(warm_up_frame(shape, dtype))[0].shape, np.dtype(np.uint16))

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        """Send a frame on its way at the model's pixel size."""
        seen, gain = self._seen(frame)
        size_um = light_path.pixel_size_um / self.factor
        # what is believed is in the frame's own pixels, and would be of others
        told = tuple(gain * value for value in light_path.brightness)
        other = replace(light_path, pixel_size_um=size_um, believed=(), brightness=told)
        inner = self._engine.submit(seen, other)

        def ticket() -> Refocused:
            done = inner()
            judgement = done.judgement
            if judgement.verdict != "unrated" and not shows_structure(
                prepare(frame, light_path.brightness).seen
            ):
                judgement = BLANK  # the noise of resampled pixels looks like structure
            judgement = replace(judgement, tile_px=judgement.tile_px / self.factor)
            restored = self._restored(frame, seen, done.pixels, gain)
            return Refocused(restored, judgement, done.engine)

        return ticket

    def _seen(self, frame: Frame) -> tuple[Frame, float]:
        """Bring a frame to the model's pixel size, in sixteen bits whatever the camera's.

        So rounding costs an 8-bit frame nothing; the gain that this takes comes with it.
        """
        check_frame(frame)
        gain = 256.0 if frame.dtype == np.uint8 else 1.0
        pixels = frame.astype(np.float32)
        beyond = [(0, self._wide(n) - n) for n in frame.shape]
        if np.any(beyond):
            pixels = np.pad(pixels, beyond, mode="symmetric")
        shape = (self._length(pixels.shape[0]), self._length(pixels.shape[1]))
        resized = np.clip(_resized(pixels, shape), 0, _top(frame))
        return np.rint(resized * gain).astype(np.uint16), gain

    def _restored(self, frame: Frame, seen: Frame, refocused: Frame, gain: float) -> Frame:
        """Add what the engine changed to the captured frame."""
        correction = (refocused.astype(np.float32) - seen.astype(np.float32)) / gain
        height, width = frame.shape
        wide = _resized(correction, (self._wide(height), self._wide(width)))
        restored = frame.astype(np.float32) + wide[:height, :width]
        counts: Frame = np.clip(np.rint(restored), 0, _top(frame)).astype(frame.dtype)
        return counts

    def close(self) -> None:
        """Release the device."""
        self._engine.close()

    def _wide(self, pixels: int) -> int:
        """Give the length, with its mirror image, that the engine takes at the model's pixels."""
        return max(pixels, math.ceil(SMALLEST / self.factor))

    def _length(self, pixels: int) -> int:
        return max(SMALLEST, round(pixels * self.factor))


def _top(frame: Frame) -> int:
    return 0xFF if frame.dtype == np.uint8 else 0xFFFF


def _resized(image: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Bring an image to a shape, without aliasing; pixel edges, not centres, stay in place."""
    zoom = [new / old for new, old in zip(shape, image.shape, strict=True)]
    blur = [max(0.0, (1 / z - 1) / 2) for z in zoom]
    smooth = ndimage.gaussian_filter(image, blur) if any(blur) else image
    result: NDArray[np.float32] = ndimage.zoom(
        smooth, zoom, order=1, mode="grid-mirror", grid_mode=True
    )
    return result
