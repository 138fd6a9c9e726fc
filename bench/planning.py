"""How long data take to be refocused, and how much disk: arithmetic on what one machine does.

Engines, the command that writes the result, and disks or network work at the same time, so the
slowest of them decides. A data set is written by one command, whoever does the rest; with several
data sets each node has a command of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from refocus.engine.tiling import HALO, LARGEST, SIDE

BYTES = 2
"""Of a pixel."""
WITH_LEVELS = 4 / 3
"""Pixels of a pyramid over those of its first level."""
SEEN = (SIDE / (SIDE - 2 * HALO)) ** 2
"""Pixels that an engine sees over those of a plane that is cut into regions."""


@dataclass(frozen=True)
class Rates:
    """What a machine does; each is measured, or quoted with its source.

    Attributes
    ----------
    engine
        Pixels that one engine refocuses and judges, a second: of one thread, or of one GPU.
    engines
        How many work at once: one for each core, or for each GPU.
    files
        Pixels that the command reads, keeps, puts together and writes beside the engine, a second.
    plane_s, start_s
        What it takes for a plane whatever its size, and until the first one is under way.
    disk_read, disk_write
        Bytes a second.
    on_cores
        Whether engines have the cores that the command needs, too.
    """

    engine: float
    engines: int
    files: float
    plane_s: float
    start_s: float
    disk_read: float
    disk_write: float
    on_cores: bool = True


@dataclass(frozen=True)
class Data:
    """Data sets of one kind.

    Attributes
    ----------
    name
        In words.
    planes, side
        Of each, and pixels along the side of a plane.
    sets
        How many there are.
    levels
        Whether smaller levels are written.
    """

    name: str
    planes: int
    side: int
    sets: int = 1
    levels: bool = False

    @property
    def pixels(self) -> int:
        """Of all planes."""
        return self.sets * self.planes * self.side**2

    @property
    def in_regions(self) -> bool:
        """Whether planes are too large to be refocused whole."""
        return self.side**2 > LARGEST


@dataclass(frozen=True)
class Nodes:
    """Machines of one kind.

    Attributes
    ----------
    name
        In words.
    rates
        Of each.
    count
        How many share the files, over a network where they are several.
    network
        Bytes that the share gives to all of them together, a second.
    """

    name: str
    rates: Rates
    count: int = 1
    network: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What it comes to.

    Attributes
    ----------
    data, nodes
        What is refocused, by which machines.
    parts
        Seconds that each kind of work would take alone, once it is under way.
    start_s
        Until it is.
    result_bytes, kept_bytes
        Of the results, not compressed, and of what is kept beside each until it is whole.
    """

    data: Data
    nodes: Nodes
    parts: Mapping[str, float]
    start_s: float
    result_bytes: float
    kept_bytes: float

    @property
    def seconds(self) -> float:
        """Until all is done."""
        return self.start_s + max(self.parts.values())

    @property
    def limit(self) -> str:
        """What takes longest."""
        return max(self.parts, key=lambda part: self.parts[part])


def plan(data: Data, nodes: Nodes) -> Plan:
    """Work out what data cost."""
    rates, at_once = nodes.rates, min(data.sets, nodes.count)
    engine = data.pixels * (SEEN if data.in_regions else 1.0) / rates.engine
    command = data.pixels / rates.files + data.sets * data.planes * rates.plane_s
    cores = rates.engines * nodes.count
    one = BYTES * data.pixels
    result = one * (WITH_LEVELS if data.levels else 1.0)
    # a large plane is read once more for its brightness, and what is kept is read back
    read, written = one * (3 if data.in_regions else 2), one + result
    parts = {
        "engine": (engine + command if rates.on_cores else engine) / cores,
        "command": command / at_once,
    }
    if nodes.count > 1:
        parts["network"] = (read + written) / nodes.network
    else:
        parts["disk"] = read / rates.disk_read + written / rates.disk_write
    start_s = rates.start_s * data.sets / at_once
    return Plan(data, nodes, parts, start_s, result, one * at_once / data.sets)


SLIDE = Data("slide, 100,000²", 1, 100_000, levels=True)
PLATE = Data("plate, 384 wells × 9 fields × 4 channels of 2048²", 384 * 9 * 4, 2048)
CAMPAIGN = Data("1,000 such plates", PLATE.planes, PLATE.side, sets=1000)
