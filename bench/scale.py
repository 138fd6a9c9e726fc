"""What a slide costs: memory and time of ``refocus-live process`` by the size of a plane.

Each run is a process of its own. ``python -m refocus.bench.scale`` writes a slide of each size, a
pyramid of tiles that repeats one field, refocuses it, and prints the table of
``docs/performance.md``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from refocus.optics.camera import CameraModel
from refocus.optics.specimens import nuclei

FIELD = 1024
TILE = 256
LEVELS = 4
RUN = """
import json, resource
from refocus.acquisition.command.cli import main
try:
    main()
finally:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"peak_mb": peak / 1024}))
"""


@dataclass(frozen=True)
class SlideRow:
    """One run.

    Attributes
    ----------
    side
        Of the plane, pixels of 16 bits.
    engine, workers
        What refocused it.
    regions
        That it was cut into.
    seconds
        Wall time of the command's work.
    peak_mb
        Memory of the process, at most; of the command alone where it has workers.
    """

    side: int
    engine: str
    workers: int
    regions: int
    seconds: float
    peak_mb: float


def write_slide(path: Path, side: int) -> None:
    """Write a pyramid of tiles, which repeats one field of nuclei, without holding it."""
    rng = np.random.default_rng(0)
    light = nuclei((FIELD, FIELD), rng, count=120, radius_um=(4.0, 6.0)) * 3000 + 50
    field = CameraModel().expose(light, rng)
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for level in range(LEVELS + 1):
            length = -(-side // 2**level)
            writer.write(
                _tiles(field[:: 2**level, :: 2**level], length),
                shape=(length, length),
                dtype=np.uint16,
                tile=(TILE, TILE),
                photometric="minisblack",
                metadata=None,
                subifds=None if level else LEVELS,
                subfiletype=int(level > 0),
            )


def _tiles(field: NDArray[np.generic], length: int) -> Iterator[NDArray[np.generic]]:
    for top in range(0, length, TILE):
        rows = np.arange(top, top + TILE) % len(field)
        for left in range(0, length, TILE):
            columns = np.arange(left, left + TILE) % len(field)
            yield field[np.ix_(rows, columns)]


def measure(side: int, engine: str, workers: int, folder: Path) -> SlideRow:
    """Refocus a slide in a process of its own."""
    source, target = folder / f"slide-{side}.tif", folder / f"refocused-{side}-{workers}.tif"
    if not source.exists():
        write_slide(source, side)
    options = ["--engine", engine, "--workers", str(workers), "--json"]
    command = [sys.executable, "-c", RUN, "process", str(source), str(target), *options]
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - begun
    said, used = (json.loads(line) for line in done.stdout.splitlines()[-2:])
    target.unlink()
    return SlideRow(side, engine, workers, said["regions"], seconds, used["peak_mb"])


def table(rows: Sequence[SlideRow]) -> str:
    """Lay the rows out in Markdown."""
    lines = ["| plane | engine | workers | regions | s | peak, MB |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row.side}² | `{row.engine}` | {row.workers} | {row.regions} | {row.seconds:.0f} | "
            f"{row.peak_mb:.0f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[6000, 12000, 20000])
    parser.add_argument("--engine", default="fake")
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(side, given.engine, workers, Path(folder))
            for side in given.sides
            for workers in given.workers
        ]
    print(table(rows))


if __name__ == "__main__":
    main()
