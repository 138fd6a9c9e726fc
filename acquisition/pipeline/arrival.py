"""What the acquisition thread leaves in the queue, and how it becomes a ``CapturedFrame``.

The acquisition thread only makes an ``MDAArrival``: references and a clock reading. All reading
of metadata waits for the worker, in ``RunContext``.
"""

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from refocus.acquisition.pipeline.frame import CapturedFrame, read_only
from refocus.engine.protocol import Frame

if TYPE_CHECKING:
    from useq import MDAEvent


logger = logging.getLogger("refocus.acquisition")

NOWHERE = (None, None, None)
EXPOSURE_TOLERANCE = 0.05
"""Cameras round exposures to lines and clock ticks."""
ROWS = 64
"""One row of so many is looked at for pixels beyond the bit depth: 0.04 ms at 2048², not 1.2."""


@lru_cache(maxsize=8)
def blank(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Frame:
    """Give zeros that take no memory, and cannot be written to."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def sample(pixels: Frame) -> bytes:
    """Give some 64 pixels spread over a frame, by which it is known again."""
    rows, columns = (max(1, length // 8) for length in pixels.shape[:2])
    return pixels[::rows, ::columns].tobytes()


def utc_of(captured_ns: int) -> str:
    """Give the time of day of a reading of ``perf_counter_ns``: ISO 8601, microseconds, UTC.

    By what both clocks read now, so that one reading is enough for the acquisition thread.
    """
    ns = time.time_ns() - (time.perf_counter_ns() - captured_ns)
    seconds, rest_ns = divmod(ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest_ns // 1000:06d}+00:00"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class Described:
    """A frame that needs no describing: the ``Arrival`` of those who have a ``CapturedFrame``."""

    __slots__ = ("_frame",)

    def __init__(self, frame: CapturedFrame) -> None:
        self._frame = frame

    def describe(self) -> CapturedFrame:
        """Give the frame."""
        return self._frame

    def note(self) -> None:
        """Do nothing: nothing depends on it."""

    def without_pixels(self) -> "Described":
        """Give the frame without the memory of its pixels."""
        pixels = self._frame.pixels
        return Described(replace(self._frame, pixels=blank(pixels.shape, pixels.dtype)))

    @property
    def nbytes(self) -> int:
        """How large its pixels are, bytes."""
        return self._frame.pixels.nbytes

    def sample(self) -> bytes:
        """Give a few of its pixels."""
        return sample(self._frame.pixels)


class RunContext:
    """What the summary at the start of a run says of all its frames, and where the stages stood.

    Parameters
    ----------
    summary
        ``SummaryMetaV1`` of ``sequenceStarted``, or an empty mapping.
    """

    def __init__(self, summary: Mapping[str, Any]) -> None:
        self.camera_gaps = 0
        self._infos = tuple(summary.get("image_infos") or ())
        self._position = _axes(_mapping(summary.get("position")))
        self._numbers: dict[str, int] = {}
        self._asked_ms: float | None = None
        self._bits: dict[tuple[str, np.dtype[Any]], int] = {}

    def camera(self) -> dict[str, Any]:
        """Describe the current camera, for ``RunInfo.camera``; empty where nothing is known."""
        if not self._infos:
            return {}
        info = self._infos[0]
        return {
            "label": info["camera_label"],
            "width": info["width"],
            "height": info["height"],
            "shape": list(info["plane_shape"]),
            "dtype": info["dtype"],
            "bit_depth": self.bit_depth(info["camera_label"], np.dtype(info["dtype"]))
            if info["dtype"].startswith("uint")
            else 0,
            "pixel_size_um": info["pixel_size_um"],
        }

    def bit_depth(self, camera: str, dtype: np.dtype[Any]) -> int:
        """Give the significant bits of a camera, at most those of its pixels."""
        key = camera, dtype
        if key not in self._bits:
            self._bits[key] = self._bits_of(camera, dtype)
        return self._bits[key]

    def bit_depth_of(self, camera: str, pixels: Frame) -> int:
        """Give the significant bits of a frame: more than at first, if it has them.

        A camera may be set to more in mid-run, and no frame says so but by its pixels.
        """
        bits = self.bit_depth(camera, pixels.dtype)
        if bits < 8 * pixels.dtype.itemsize:
            bits = max(bits, int(pixels[::ROWS].max(initial=0)).bit_length())
            self._bits[camera, pixels.dtype] = bits
        return bits

    def _bits_of(self, camera: str, dtype: np.dtype[Any]) -> int:
        bits = dtype.itemsize * 8
        named = [info for info in self._infos if info["camera_label"] == camera]
        for info in (named or self._infos)[:1]:
            if digits := re.search(r"\d+$", info["pixel_format"]):
                return min(int(digits[0]), bits)
        return bits

    def count(self, camera: str, tags: Mapping[str, Any]) -> None:
        """Count the frames that the camera numbered and that never came, within one burst."""
        try:
            number = int(tags["ImageNumber"])
        except (KeyError, ValueError, TypeError):
            return
        before = self._numbers.get(camera, number)
        self._numbers[camera] = number
        if number > before:  # else a new burst, or one frame twice
            self.camera_gaps += number - before - 1

    def compare_exposure(self, asked_ms: float | None, taken_ms: float) -> None:
        """Warn, once, of a camera that does not take the exposure that was asked for."""
        if asked_ms is None or asked_ms == self._asked_ms or not taken_ms:
            return
        self._asked_ms = asked_ms
        if abs(taken_ms - asked_ms) > EXPOSURE_TOLERANCE * asked_ms:
            logger.warning(
                "an exposure of %g ms was asked for, and the camera took %g ms; see what it can do",
                asked_ms,
                taken_ms,
            )

    def position(self, event: "MDAEvent", meta: Mapping[str, Any]) -> dict[str, float]:
        """Say where the stages are: as measured, else as ordered, else where they were last."""
        ordered = event.x_pos, event.y_pos, event.z_pos
        measured = _mapping(meta.get("position"))
        if measured or ordered != NOWHERE:
            said = {axis: um for axis, um in zip("xyz", ordered, strict=True) if um is not None}
            self._position = self._position | said | _axes(measured)  # earlier frames keep theirs
        return self._position


class MDAArrival:
    """One ``frameReady``, with the clock read; cheap to make and cheap to drop."""

    __slots__ = ("_context", "_event", "_frame", "_meta", "_ns", "_pixels")

    def __init__(  # noqa: PLR0917
        self,
        context: RunContext,
        frame: int,
        pixels: Frame,
        event: "MDAEvent",
        meta: Mapping[str, Any],
        captured_ns: int,
    ) -> None:
        self._context = context
        self._frame = frame
        self._pixels = pixels
        self._event = event
        self._meta = meta
        self._ns = captured_ns

    def describe(self) -> CapturedFrame:
        """Read the metadata. Called on the worker, in order of capture."""
        event, meta, pixels = self._event, self._meta, self._pixels
        camera = str(meta.get("camera_device") or "")
        of_camera = _mapping(meta.get("camera_metadata"))
        self._context.count(camera, of_camera)
        source = of_camera.get("source") or event.metadata.get("source") or ""
        index = event.index
        exposure_ms = _number(meta.get("exposure_ms"))
        self._context.compare_exposure(event.exposure, exposure_ms)
        return CapturedFrame(
            pixels=read_only(pixels),
            frame=self._frame,
            captured_utc=utc_of(self._ns),
            captured_ns=self._ns,
            index={str(axis): index[axis] for axis in index},
            channel=event.channel.config if event.channel else "",
            position_um=self._context.position(event, meta),
            pixel_size_um=_number(meta.get("pixel_size_um")),
            exposure_ms=exposure_ms,
            camera=camera,
            bit_depth=self._context.bit_depth_of(camera, pixels),
            source=str(source),
        )

    def note(self) -> None:
        """Read what later frames depend on: the camera's number, and where the stages are."""
        meta = self._meta
        camera = str(meta.get("camera_device") or "")
        self._context.count(camera, _mapping(meta.get("camera_metadata")))
        self._context.position(self._event, meta)

    def without_pixels(self) -> "MDAArrival":
        """Give the same without the memory of its pixels."""
        empty = blank(self._pixels.shape, self._pixels.dtype)
        return MDAArrival(self._context, self._frame, empty, self._event, self._meta, self._ns)

    @property
    def nbytes(self) -> int:
        """How large its pixels are, bytes."""
        return self._pixels.nbytes

    def sample(self) -> bytes:
        """Give a few of its pixels."""
        return sample(self._pixels)


def _axes(position: Mapping[str, Any]) -> dict[str, float]:
    """Read what is a number; an axis whose place is not told is left out."""
    numbers = {axis: _number(position[axis], nan) for axis in "xyz" if axis in position}
    return {axis: um + 0.0 for axis, um in numbers.items() if isfinite(um)}


def _mapping(said: object) -> Mapping[str, Any]:
    """Give what drivers and other engines say, where it is what it should be; else nothing."""
    return said if isinstance(said, Mapping) else {}


def _number(said: Any, otherwise: float = 0.0) -> float:
    try:
        number = float(said)
    except (TypeError, ValueError, OverflowError):
        return otherwise
    return number if isfinite(number) else otherwise
