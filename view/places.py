"""The newest frame of every place of a specimen, and those before it, in bounded memory."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from refocus.stream.messages import FrameHeader
from refocus.stream.subscriber import Pixels, ReceivedFrame

KEPT_BYTES = 512_000_000
"""What the frames of all places may take. Those that a newer one has replaced go first."""

NAMED_PLACES = 4096
"""How many places are remembered by name."""


class Place(NamedTuple):
    """Where a frame belongs: position and plane by their useq index, channel by its name."""

    p: int
    c: str
    z: int

    @classmethod
    def of(cls, header: FrameHeader) -> Self:
        """Read it from a frame's header."""
        index = header.index
        channel = header.channel or (f"channel {index['c']}" if "c" in index else "")
        return cls(index.get("p", 0), channel, index.get("z", 0))


class Wanted(NamedTuple):
    """What a browser wants to see; None follows the run."""

    p: int | None = None
    c: str | None = None
    z: int | None = None

    def takes(self, place: Place) -> bool:
        """Tell whether a place is among what is wanted."""
        return all(wanted in (None, at) for wanted, at in zip(self, place, strict=True))


@dataclass(frozen=True, eq=False)
class Shown:
    """A frame that can be shown.

    Attributes
    ----------
    serial
        Counts every frame that came, over all runs.
    place
        Where it belongs.
    frame
        The frame; its pixels stay in the memory they arrived in.
    captured_s
        When it was captured, on this computer's monotonic clock, s.
    """

    serial: int
    place: Place
    frame: ReceivedFrame
    captured_s: float

    @property
    def captured(self) -> Pixels | None:
        """The captured pixels; None where they are others, and are not sent."""
        frame = self.frame
        return frame.pixels if frame.raw is None and not frame.header.refocused else frame.raw

    @property
    def nbytes(self) -> int:
        """Memory that its pixels hold."""
        raw = self.frame.raw
        return int(self.frame.pixels.nbytes + (raw.nbytes if raw is not None else 0))


class LatestFrames:
    """Keeps the newest frame of each place, and of those before them as many as there is room for.

    Not thread-safe: :class:`~refocus.view.stream_state.StreamState` holds a lock.

    Parameters
    ----------
    budget
        Bytes of pixels to keep; the newest frame of all is kept whatever its size.
    """

    def __init__(self, budget: int = KEPT_BYTES) -> None:
        self._budget = budget
        self._bytes = 0
        self._frames: OrderedDict[Place, Shown] = OrderedDict()  # oldest first
        self._past: OrderedDict[int, Shown] = OrderedDict()  # by serial, replaced longest ago first
        self._places: OrderedDict[Place, None] = OrderedDict()

    def put(self, shown: Shown) -> bool:
        """Keep a frame in place of the one before; tell whether its place is new."""
        before = self._frames.pop(shown.place, None)
        if before is not None:
            self._past[before.serial] = before
        self._frames[shown.place] = shown
        self._bytes += shown.nbytes
        while self._bytes > self._budget and (self._past or len(self._frames) > 1):
            _, gone = (self._past or self._frames).popitem(last=False)
            self._bytes -= gone.nbytes
        new = shown.place not in self._places
        self._places[shown.place] = None
        while len(self._places) > NAMED_PLACES:
            self._places.popitem(last=False)
        return new

    def get(self, wanted: Wanted) -> Shown | None:
        """Give the newest frame of what is wanted, or None if there is none."""
        found = (shown for place, shown in reversed(self._frames.items()) if wanted.takes(place))
        return next(found, None)

    def of_each_channel(self, wanted: Wanted) -> list[Shown]:
        """Give the newest frame of each channel at the place that is wanted, oldest first."""
        found: dict[str, Shown] = {}
        for place, shown in self._frames.items():
            if wanted.takes(place):
                found[place.c] = shown
        return sorted(found.values(), key=lambda shown: shown.serial)

    def held(self, serial: int) -> Shown | None:
        """Give the frame of a serial number, or None if it is not kept any more."""
        newest = (shown for shown in self._frames.values() if shown.serial == serial)
        return self._past.get(serial) or next(newest, None)

    @property
    def oldest(self) -> int:
        """Serial number before which no replaced frame is kept."""
        newest = max((shown.serial for shown in self._frames.values()), default=0)
        return next(iter(self._past), newest)

    def axes(self) -> dict[str, list[Any]]:
        """Name the positions, channels and planes that were seen, each in order."""
        seen = zip(*self._places, strict=True) if self._places else ((), (), ())
        return {axis: sorted(set(values)) for axis, values in zip("pcz", seen, strict=True)}

    def clear(self) -> None:
        """Forget all places, as a new run has others."""
        self._frames.clear()
        self._past.clear()
        self._places.clear()
        self._bytes = 0
