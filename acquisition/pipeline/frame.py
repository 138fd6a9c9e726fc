"""A frame on its way from the camera to the sinks, and what is known about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refocus.engine.protocol import EngineInfo

if TYPE_CHECKING:
    from refocus.engine.trust.judgement import Judgement

NOTHING: Mapping[str, int] = MappingProxyType({})


def read_only(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Share pixels with those who must not write to them: the acquisition's own writer reads them.

    The array that was given stays writable for its owner.
    """
    view = pixels.view()
    view.flags.writeable = False
    return view


NO_PLACE = -1
"""Of a frame that came twice for one event, or is not of its sequence."""


@dataclass(frozen=True, eq=False)
class CapturedFrame:
    """One frame as the camera gave it.

    Attributes
    ----------
    pixels
        ``(H, W)``, ``uint8`` or ``uint16``. Shared with the acquisition's own writer: never
        written to, never copied on the acquisition thread.
    frame
        Capture number, from 0.
    index
        useq index, such as ``{"t": 0, "p": 1, "c": 0, "z": 3}``.
    channel
        Name of the channel, or ``""``.
    position_um
        Stage position ``{"x": µm, "y": µm, "z": µm}``; axes that are unknown are absent.
    pixel_size_um
        Size of a pixel at the specimen, µm; 0.0 where unknown.
    exposure_ms
        Exposure, ms.
    camera
        Label of the camera device.
    bit_depth
        Significant bits of a pixel.
    captured_utc
        When the frame reached us, ISO 8601 with microseconds, UTC.
    captured_ns
        The same on the monotonic clock (``time.perf_counter_ns``), for latencies.
    source
        File the frame came from, in a replay; else ``""``.
    place
        Where it belongs in the order of the sequence, from 0, frames that the camera lost
        included; ``NO_PLACE`` where it has none, None where nobody has worked it out.
    """

    pixels: NDArray[np.generic]
    frame: int
    captured_utc: str
    captured_ns: int
    index: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    channel: str = ""
    position_um: Mapping[str, float] = field(default_factory=dict)
    pixel_size_um: float = 0.0
    exposure_ms: float = 0.0
    camera: str = ""
    bit_depth: int = 16
    source: str = ""
    place: int | None = None

    @property
    def position(self) -> str:
        """Which place of the sequence it shows, ``"p1"`` or ``"p1 g4"``; empty if there is one."""
        return " ".join(f"{axis}{self.index[axis]}" for axis in "pg" if axis in self.index)

    @property
    def z_um(self) -> float | None:
        """Where the stage was, of a plane of a z-stack; None for one of no stack."""
        return self.position_um.get("z") if "z" in self.index else None


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What became of a captured frame, as handed to every sink.

    Attributes
    ----------
    captured
        The frame it came from.
    pixels
        ``(H, W)``, same dtype: the refocused pixels, or the captured ones where the frame was
        passed through on purpose, or is not trusted.
    refocused
        False for a frame passed through.
    number
        Contiguous from 0 in order of publishing, so that a gap is a lost message.
    queued_ms, engine_ms
        Time spent waiting for the engine, and in it, ms.
    engine
        What refocused it; None for a frame passed through.
    judgement
        How far it can be trusted, and how much of it is refocused; None for a frame passed through.
    decision
        What is done about it, and why, where the acquisition is steered by its frames; else None.
    processor
        Name of what made the pixels, of those that would have been published; else empty.
    """

    captured: CapturedFrame
    pixels: NDArray[np.generic]
    refocused: bool
    number: int
    queued_ms: float
    engine_ms: float
    engine: EngineInfo | None = None
    judgement: "Judgement | None" = None
    decision: Mapping[str, Any] | None = None
    processor: str = ""
