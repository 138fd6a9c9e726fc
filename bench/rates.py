"""What this machine does of all that refocusing recorded data takes, measured on small data."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from refocus.bench.planning import Data, Nodes, Plan, Rates, plan
from refocus.bench.plates import measure_plate, write_plate
from refocus.bench.slide import Regions, write_slide
from refocus.engine import open_engine
from refocus.engine.protocol import Engine, EngineInfo
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options
from refocus.recorded.staff import crew_of

Progress = Callable[[str], None]
"""Is told what is being measured."""

H200_MPX_S = 2048**2 / 14.7e-3 / 1e6
"""Of one H200: 14.7 ms for a judged frame of 2048², one at a time (docs/gpu.md)."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes
    ----------
    slide, check
        Sides of the slides that the rates are measured with, and that the model is checked with.
    wells, field
        Of the plate that the model is checked with, and the side of its planes.
    disk_mb
        Written and read again.
    """

    slide: int = 4000
    check: int = 6000
    wells: int = 24
    field: int = 1024
    disk_mb: int = 512


QUICK = Sizes(slide=1000, check=2000, wells=6, field=256, disk_mb=64)


@dataclass(frozen=True)
class Check:
    """The model beside a run of the same.

    Attributes
    ----------
    predicted
        What it says.
    seconds
        What the run took.
    """

    predicted: Plan
    seconds: float

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.seconds / self.predicted.seconds


def measure_rates(engine: str, sizes: Sizes, progress: Progress = lambda what: None) -> Rates:
    """Measure each rate by itself."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        progress("the disk")
        disk_read, disk_write = _disk(folder / "file", sizes.disk_mb)
        source = folder / "slide.tif"
        write_slide(source, sizes.slide)
        progress("the engine alone")
        with _opened(engine) as opened:
            on_cores = is_on_cores(opened.info)
            engines = cores() if on_cores else 1
            regions = Regions(source, opened)
            regions.seconds()  # a network is compiled for each size that it meets
            alone = regions.seconds()
            progress("the start of workers")
            write_slide(folder / "small.tif", 256)
            start_s = _run(folder / "small.tif", folder / "small-out.tif", engine, opened, engines)
        progress("the command beside the engine")
        with _opened("fake") as nothing:
            files_s = _run(source, folder / "out.tif", "fake", nothing, 1)
    progress("planes of a plate")
    plate = measure_plate(6, 9)
    return Rates(
        engine=regions.pixels / alone,
        engines=engines,
        files=sizes.slide**2 / files_s,
        plane_s=(plate.wall_ms or 0.0) / 1e3,
        start_s=start_s,
        disk_read=disk_read,
        disk_write=disk_write,
        on_cores=on_cores,
    )


def check(
    engine: str, rates: Rates, sizes: Sizes, progress: Progress = lambda what: None
) -> Iterator[Check]:
    """Run a slide and a plate by as many workers as there are engines, and compare."""
    here, workers = Nodes("this machine", rates), rates.engines
    with tempfile.TemporaryDirectory() as place, _opened(engine) as opened:
        folder = Path(place)
        progress("a slide, to check the model")
        source = folder / "slide.tif"
        write_slide(source, sizes.check)
        slide = Data(f"slide, {sizes.check}²", 1, sizes.check, levels=True)
        yield Check(plan(slide, here), _run(source, folder / "out.tif", engine, opened, workers))
        progress("a plate, to check the model")
        field = np.random.default_rng(0).integers(0, 4096, (1, sizes.field, sizes.field), np.uint16)
        write_plate(folder / "plate.ome.zarr", sizes.wells, 1, lambda *place: field)
        plate = Data(f"plate, {sizes.wells} planes of {sizes.field}²", sizes.wells, sizes.field)
        target = folder / "out.ome.zarr"
        seconds = _run(folder / "plate.ome.zarr", target, engine, opened, workers)
        yield Check(plan(plate, here), seconds)


def kinds_of(rates: Rates, network: float) -> Iterator[Nodes]:
    """Name the machines to plan for: this one, this one with a GPU, and 32 like it."""
    here = f"{rates.engines} cores" if rates.on_cores else "by its GPU"
    yield Nodes(f"this PC, {here}", rates)
    with_gpu = replace(rates, engine=H200_MPX_S * 1e6, engines=1, on_cores=False)
    yield Nodes("this PC and an H200", with_gpu)
    yield Nodes("32 such PCs", rates, 32, network)


def is_on_cores(engine: EngineInfo) -> bool:
    """Tell whether an engine computes on this machine's cores: it counts its threads then."""
    return engine.device == "none" or engine.device.endswith(" threads")


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _opened(engine: str) -> Iterator[Engine]:
    opened = open_engine(engine, threads=1)
    try:
        yield opened
    finally:
        opened.close()


def _run(source: Path, target: Path, engine: str, opened: Engine, workers: int) -> float:
    """Refocus a data set, and say how long that took."""
    crew = crew_of(source, target, engine, opened.info, Options(), workers)
    begun = time.perf_counter()
    process(source, target, opened, lambda done: None, crew=crew)
    return time.perf_counter() - begun


def _disk(path: Path, megabytes: int) -> tuple[float, float]:
    """Write a file to the disk and read it back from there; give both rates, bytes a second."""
    block = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8).tobytes()
    begun = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        written = time.perf_counter() - begun
        if hasattr(os, "posix_fadvise"):  # or it would be read from memory
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    begun = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
    read = time.perf_counter() - begun
    path.unlink()
    size = megabytes * len(block)
    return size / read, size / written
