"""Several processes at one data set: the same bits, whoever ends in the middle."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from refocus.configs import RefocusError
from refocus.engine import open_engine
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options
from refocus.recorded.staff import crew_of
from refocus.recorded.work import Processed
from refocus.recorded.workers import Workers


def write(path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(3).integers(0, 1 << 12, shape).astype(np.uint16)
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None, tile=(256, 256))


def run(
    source: Path,
    target: Path,
    engine: str,
    workers: int,
    *,
    kill: bool = False,
    light_path: Path | None = None,
) -> Processed:
    opened = open_engine(engine, threads=1)
    try:
        crew = crew_of(source, target, engine, opened.info, Options(), workers)

        def on_progress(done: Processed) -> None:
            if kill and done.regions == 2 and isinstance(crew, Workers):
                crew.running[0].kill()

        return process(source, target, opened, on_progress, crew=crew, light_path=light_path)
    finally:
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(12, 64, 96), (2600, 2700)], ids=["planes", "regions"])
def test_two_workers_and_one_that_is_killed_leave_the_same_bits(
    tmp_path: Path, shape: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in.tif"
    write(source, shape)
    alone = run(source, tmp_path / "a.tif", "fake", 1)
    together = run(source, tmp_path / "b.tif", "fake", 2, kill=True)
    assert together == alone
    assert "its task is done again" in caplog.text
    a, b = (tmp_path / name for name in ("a.tif", "b.tif"))
    assert a.read_bytes() == b.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("a.tif", "a.tif.refocus.csv", "a.tif.refocus.json"),
        *("b.tif", "b.tif.refocus.csv", "b.tif.refocus.json", "in.tif"),
    ]


@pytest.mark.slow
def test_planes_of_one_region_are_told_what_those_before_them_told(tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    write(source, (3, 96, 96))
    for name, workers in (("a", 1), ("b", 2)):
        rig = tmp_path / f"{name}.json"
        run(source, tmp_path / f"{name}.tif", "any-objective", workers, light_path=rig)
    np.testing.assert_array_equal(*(tifffile.imread(tmp_path / n) for n in ("a.tif", "b.tif")))
    a, b = (tmp_path / name for name in ("a.json", "b.json"))
    assert a.read_bytes() == b.read_bytes()


def test_a_worker_with_another_model_is_refused(tmp_path: Path, model_file: Path) -> None:
    source = tmp_path / "in.tif"
    write(source, (2, 64, 96))
    opened = open_engine("fake")
    crew = crew_of(source, tmp_path / "a.tif", str(model_file), opened.info, Options(), 2)
    with pytest.raises(RefocusError, match=r"a worker has refocus-live .* random .* began"):
        process(source, tmp_path / "a.tif", opened, lambda done: None, crew=crew)
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]
