"""A real Dask cluster of this machine at one data set, and one of its workers that is killed."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile

from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.recorded.cluster import do
from refocus.recorded.job import Job, task_as_json
from refocus.recorded.marks import identify_engine
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options, Told
from refocus.recorded.staff import crew_of
from refocus.recorded.work import Processed, Task

distributed = pytest.importorskip("distributed")


def test_a_cluster_leaves_the_same_bits_when_a_worker_is_killed(tmp_path: Path) -> None:
    source, engine = tmp_path / "in.tif", FakeEngine()
    planes = np.random.default_rng(3).integers(0, 1 << 12, (12, 64, 96)).astype(np.uint16)
    tifffile.imwrite(source, planes, photometric="minisblack", metadata=None)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        pids = [worker.process.pid for worker in cluster.workers.values()]
        target, address = tmp_path / "out.tif", cluster.scheduler_address
        crew = crew_of(source, target, "fake", engine.info, Options(), scheduler=address)

        def on_progress(done: Processed) -> None:
            if done.regions == 2:
                os.kill(pids[0], signal.SIGKILL)

        assert process(source, target, engine, on_progress, crew=crew).refocused == 12
    np.testing.assert_array_equal(tifffile.imread(target), np.invert(planes))


@pytest.mark.parametrize("fault", [None, "the device is gone"])
def test_a_worker_closes_the_job_before_when_it_opens_another(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str | None,
) -> None:
    closed: list[FakeEngine] = []

    def close(engine: FakeEngine) -> None:
        closed.append(engine)
        if fault:
            raise RuntimeError(fault)

    monkeypatch.setattr(FakeEngine, "close", close)
    monkeypatch.setattr("refocus.recorded.cluster._opened", {})
    task = json.dumps(task_as_json(Task(0, (0,), Told())))
    made_by = identify_engine(FakeEngine().info, Options().selection)
    for number in range(3):
        source, folder = tmp_path / f"{number}.tif", tmp_path / f"{number}"
        tifffile.imwrite(source, np.zeros((64, 96), np.uint16))
        folder.mkdir()
        job = json.dumps(Job(source, folder, "fake", made_by, Options()).as_json())
        for _ in range(2):
            (event,) = json.loads(do(job, task))
            assert event["region"] == 0
        assert len(closed) == number
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"the job before was not closed: {fault}"] * 2 * bool(fault)


def test_a_scheduler_that_is_not_there_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(RefocusError, match="no Dask cluster that fits") as caught:
        crew_of(
            tmp_path,
            tmp_path / "out",
            "fake",
            FakeEngine().info,
            Options(),
            scheduler="tcp://127.0.0.1:9",
        )
    assert "\n" not in str(caught.value)
