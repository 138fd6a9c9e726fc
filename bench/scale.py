"""What slides and plates cost: memory, time beside the engine, and what a second worker gives.

``make scale`` prints the table of ``docs/performance.md``. Memory is that of a run in a process of
its own, by an engine that does nothing; the two ratios are of a network, each of runs in turn.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from refocus.bench.figures import Figure, machine
from refocus.bench.plates import PlateRow, measure_plate
from refocus.bench.report_command import count, run_report
from refocus.bench.slide import Regions, write_slide
from refocus.engine import open_engine
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options
from refocus.recorded.staff import crew_of

RUN = """
import json, resource
from refocus.acquisition.command.cli import main
try:
    main()
finally:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"peak_mb": peak / 1024}))
"""
WORKERS = 2


@dataclass(frozen=True)
class SlideRow:
    """One run of the command.

    Attributes
    ----------
    side
        Of the plane, pixels of 16 bits.
    engine
        What refocused it.
    regions
        That it was cut into.
    seconds
        Wall time of the command's work.
    peak_mb
        Memory of the process, at most.
    """

    side: int
    engine: str
    regions: int
    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class RatioRow:
    """Runs of one slide in turn, each by an engine of one thread; medians.

    Attributes
    ----------
    side
        Of the plane, pixels of 16 bits.
    engine
        What refocused it.
    regions
        That it was cut into.
    alone
        Seconds of the engine on the same regions in memory, without files.
    one, two
        Seconds from file to file by this process, and by two workers, their start included.
    over_alone, times
        ``one`` over ``alone``, and over ``two``: of each round.
    busy
        Processor time of this process in ``one``, over that in ``alone``.
    """

    side: int
    engine: str
    regions: int
    alone: float
    one: float
    two: float
    over_alone: float
    times: float
    busy: float


def measure(side: int, engine: str, folder: Path) -> SlideRow:
    """Refocus a slide in a process of its own."""
    source, target = _slide(side, folder), folder / "refocused.tif"
    command = [sys.executable, "-c", RUN, "process", str(source), str(target)]
    begun = time.monotonic()
    done = subprocess.run(
        [*command, "--engine", engine, "--json"], capture_output=True, text=True, check=True
    )
    seconds = time.monotonic() - begun
    said, used = (json.loads(line) for line in done.stdout.splitlines()[-2:])
    _remove(target)
    return SlideRow(side, engine, said["regions"], seconds, used["peak_mb"])


def compare(side: int, engine: str, rounds: int, folder: Path) -> RatioRow:
    """Refocus a slide without files, from file to file, and by two workers, in turn."""
    source, target = _slide(side, folder), folder / "refocused.tif"
    opened = open_engine(engine, threads=1)
    try:
        regions = Regions(source, opened)

        def from_file_to_file(workers: int) -> float:
            crew = crew_of(source, target, engine, opened.info, Options(), workers)
            begun = time.perf_counter()
            process(source, target, opened, lambda done: None, crew=crew)
            seconds = time.perf_counter() - begun
            _remove(target)
            return seconds

        regions.seconds()  # a network is compiled for each size that it meets
        found, busy = [], []
        for _ in range(rounds):
            clock = [time.process_time()]
            alone = regions.seconds()
            clock.append(time.process_time())
            one = from_file_to_file(1)
            clock.append(time.process_time())
            found.append((alone, one, from_file_to_file(WORKERS)))
            busy.append((clock[2] - clock[1]) / (clock[1] - clock[0]))
    finally:
        opened.close()
    alone, one, two = (median(column) for column in zip(*found, strict=True))
    over_alone = median(a_file / bare for bare, a_file, _ in found)
    times = median(by_one / by_two for _, by_one, by_two in found)
    return RatioRow(side, engine, len(regions), alone, one, two, over_alone, times, median(busy))


def figures(
    slides: Sequence[SlideRow], plates: Sequence[PlateRow], ratios: Sequence[RatioRow]
) -> Iterator[Figure]:
    """Compare what was measured with the figures to reach."""
    for slide in slides:
        name = f"slide of {slide.side}², {slide.regions} regions, `{slide.engine}`"
        peak = slide.peak_mb
        yield Figure(f"{name}: memory at most, MB", "≤ 1500", f"{peak:.0f}", peak <= 1500)
        yield Figure(f"{name}: s", "", f"{slide.seconds:.0f}", True)
    for plate in plates:
        name = f"plate of {plate.wells} wells, {plate.planes} planes of {plate.side}², `fake`"
        each = plate.wall_ms or 0.0
        yield Figure(f"{name}: ms a plane", "≤ 5", f"{each:.1f}", each <= 5)
    for row in ratios:
        name = f"slide of {row.side}², {row.regions} regions, `{row.engine}`"
        yield Figure(f"{name}: the engine alone, s", "", f"{row.alone:.0f}", True)
        over, times = row.over_alone, row.times
        yield Figure(f"{name}: wall time over that", "≤ 1.15", f"{over:.2f}", over <= 1.15)
        yield Figure(f"{name}: processor time over that", "", f"{row.busy:.2f}", True)
        what = f"{name}: one process over {WORKERS} workers"
        yield Figure(what, "≥ 1.8", f"{times:.2f}", times >= 1.8)


def table(found: Iterator[Figure]) -> str:
    """Lay figures out in Markdown."""
    lines = ["| figure | wanted | found | |", "|---|---|---|---|"]
    for figure in found:
        met = ("met" if figure.met else "missed") if figure.wanted else ""
        lines.append(f"| {figure.what} | {figure.wanted} | {figure.found} | {met} |")
    return "\n".join(lines)


def _slide(side: int, folder: Path) -> Path:
    path = folder / f"slide-{side}.tif"
    if not path.exists():
        write_slide(path, side)
    return path


def _remove(target: Path) -> None:
    for path in target.parent.glob(f"{target.name}*"):
        path.unlink()


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load not known"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="*", default=[6000, 20000], help="by `fake`")
    parser.add_argument("--wells", type=int, choices=(6, 12, 24, 48, 96, 384), default=96)
    parser.add_argument("--fields", type=count, default=9, help="of each well, 64² each")
    parser.add_argument("--side", type=count, default=10000, help="of the slide of the ratios")
    parser.add_argument("--engine", default="refocus-compact", help="of the ratios")
    parser.add_argument("--rounds", type=count, default=2, help="of the ratios")
    given = parser.parse_args(arguments)
    before, begun = _load(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        slides = [measure(side, "fake", Path(folder)) for side in given.sides]
        plate = measure_plate(given.wells, given.fields)
        ratios = compare(given.side, given.engine, given.rounds, Path(folder))
    print(f"On {machine()}; {before} before, {_load()} after, {time.monotonic() - begun:.0f} s.\n")
    print(table(figures(slides, [plate], [ratios])))


if __name__ == "__main__":
    run_report(main)
