"""Planes through the engine, and the record of what became of each."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from refocus.configs import RefocusError
from refocus.configs.light_path import KnownOptics
from refocus.configs.live_config import DEFAULTS
from refocus.engine.protocol import UNKNOWN, Engine, EngineError, EngineInfo, LightPath
from refocus.engine.refocuser import OnDistrust, Refocuser
from refocus.recorded.planes import Plane
from refocus.recorded.selection import USUAL, Selection
from refocus.recorded.verdict_table import VerdictTable

log = logging.getLogger("refocus.process")


@dataclass
class Processed:
    """What became of the planes of a data set.

    Attributes
    ----------
    refocused, failed
        How many.
    as_captured
        How many were not to be refocused, by the reason.
    engine_ms, verdicts
        Of those refocused.
    """

    refocused: int = 0
    failed: int = 0
    as_captured: Counter[str] = field(default_factory=Counter)
    engine_ms: list[float] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class About:
    """What a file says of a plane.

    Attributes
    ----------
    name
        Which one it is, for messages.
    place
        Which one it is, for the record: an index, or the number of a page.
    bit_depth
        Significant bits of a pixel; None where it is not stated.
    light_path
        What it says of that.
    channel
        Name of its channel; empty where it has none.
    position
        Which place it shows.
    image
        Folder of its image, or its file.
    axes
        Its index along each axis that is named.
    in_stack
        Whether it is one of several along z.
    z_um
        Where it lies in its stack, from the first plane; None where that is not stated.
    """

    name: str
    place: Any = 0
    bit_depth: int | None = None
    light_path: LightPath = UNKNOWN
    channel: str = ""
    position: str = ""
    image: Path = Path()
    axes: Mapping[str, int] = field(default_factory=dict)
    in_stack: bool = False
    z_um: float | None = None


class Refocusing:
    """Refocuses planes one after the other.

    Parameters
    ----------
    engine
        What does it.
    source
        What the planes are of.
    table
        Takes a line of each.
    on_distrust
        What is written where a result is not trusted.
    on_plane
        Called after each.
    optics
        What is told of the light path, whatever the files say.
    selection
        Which of them, and which part.
    channels
        Engines of some channels.
    """

    def __init__(
        self,
        engine: Engine,
        source: Path,
        table: VerdictTable,
        *,
        on_plane: Callable[[Processed], None],
        on_distrust: OnDistrust = DEFAULTS.on_distrust,
        optics: KnownOptics = DEFAULTS.optics,
        selection: Selection = USUAL,
        channels: Mapping[str, Engine] | None = None,
    ) -> None:
        self.done = Processed()
        self.unreadable: RefocusError | None = None
        self.table = table
        self._engine, self._source, self._on_distrust = engine, source, on_distrust
        self._selection = selection
        self._refocuser = Refocuser(engine, channels, selection.region, on_distrust, optics)
        self._on_plane, self._optics = on_plane, optics
        self._records: list[dict[str, Any]] = []

    def refocus(self, plane: Plane, about: About) -> Plane | None:
        """Give the plane that is to be written; None where the engine failed on it."""
        if why := self._selection.left(about.channel, about.in_stack):
            self.done.as_captured[why] += 1
            self._note(about, None, {"as_captured": why})
            self._on_plane(self.done)
            return plane
        self._selection.check_region(plane.shape, about.name)
        bits = about.bit_depth or 8 * plane.dtype.itemsize
        try:
            self._optics.check_pixel_size(about.light_path.pixel_size_um)
        except RefocusError as error:
            raise RefocusError(f"{about.name}: {error}") from error
        started = time.perf_counter()
        try:
            self._refocuser.warm_up(plane.shape, plane.dtype, about.light_path)
            result = self._refocuser.refocus(
                plane, about.channel, about.light_path, bits, about.position
            )
        except EngineError as error:
            self.leave_out(about, error)
            return None
        self.done.refocused += 1
        judgement = result.judgement
        self.done.verdicts[judgement.verdict] += 1
        self.done.engine_ms.append((time.perf_counter() - started) * 1000)
        um = judgement.distance_um
        record = {"verdict": judgement.verdict, "distance_um": None if um is None else round(um, 3)}
        self._note(about, result.engine, record)
        self._on_plane(self.done)
        return result.pixels

    def leave_out(self, about: About, error: RefocusError) -> None:
        """Note a plane or a file that is not in the result, and go on."""
        log.warning("%s: left out: %s", about.name, error)
        if not isinstance(error, EngineError):
            self.unreadable = self.unreadable or error
        self.done.failed += 1
        self._note(about, None, {"left_out": str(error)})
        self._on_plane(self.done)

    def _note(self, about: About, info: EngineInfo | None, record: dict[str, Any]) -> None:
        self._records.append({"plane": about.place, **record})
        known = self._optics.of(about.channel, about.light_path)
        axes = {name: number for name, number in about.axes.items() if name in "tcz"}
        plane = " ".join(map(str, about.place)) if isinstance(about.place, tuple) else about.place
        z_um = "" if about.z_um is None else round(about.z_um, 4)
        said = {"plane": plane, "channel": about.channel, **axes, "z_um": z_um, **record}
        self.table.add(about.image, known, info, **said)

    def check_selection(self) -> None:
        """Refuse a data set of which all stays as captured, by a RefocusError."""
        if self.done.as_captured and not self.done.refocused and not self.done.failed:
            why = "; ".join(sorted(self.done.as_captured))
            raise RefocusError(f"{self._source}: nothing to refocus: {why}")

    def provenance(self) -> dict[str, Any]:
        """Say what made the planes since the last call, and how far each is to be trusted."""
        card = self._engine.info.card
        planes, self._records = self._records, []
        return {
            "software": self.software,
            "engine": self._engine.info.describe(),
            "model_version": card.version if card else "",
            "on_distrust": self._on_distrust,
            "source": self._source.name,
            "processed_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "planes": planes,
        }

    @cached_property
    def software(self) -> str:
        """Who made it, and with which model: a mark that the pixels are not the camera's."""
        card = self._engine.info.card
        model = f"{card.name} {card.sha256[:12]}".rstrip() if card else "no model"
        return f"refocus-live {version('refocus-live')} (refocused: {model})"
