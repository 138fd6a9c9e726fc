"""A real Dask cluster of this machine at one data set, and one of its workers that is killed."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile

from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options
from refocus.recorded.staff import crew_of
from refocus.recorded.work import Processed

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
