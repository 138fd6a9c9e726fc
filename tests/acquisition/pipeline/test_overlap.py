"""Several frames under way: order, accounts and what a sink is told stay exact."""

from collections import Counter

import numpy as np
import pytest

from refocus.acquisition.pipeline.arrival import Described
from refocus.acquisition.pipeline.frame import CapturedFrame
from refocus.acquisition.pipeline.pipeline import Pipeline
from refocus.acquisition.pipeline.queue import Task
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.engine.fake import FakeEngine
from refocus.engine.protocol import UNKNOWN, Frame, LightPath, Ticket

DEVICE_S = 0.002


class Counting(FakeEngine):
    """Counts its frames under way, and the most that there were."""

    def __init__(self, overlap: int, fail_on: frozenset[int] = frozenset()) -> None:
        super().__init__(DEVICE_S, fail_on, overlap)
        self.under_way, self.most = 0, 0

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        ticket = super().submit(frame)
        self.under_way += 1
        self.most = max(self.most, self.under_way)

        def waited():  # type: ignore[no-untyped-def]
            self.under_way -= 1
            return ticket()

        return waited


class Told:
    """A sink that notes what it is told, in order."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []

    def start(self, run):
        pass

    def put(self, result):
        wanted = np.invert if result.refocused else np.array
        np.testing.assert_array_equal(result.pixels, wanted(result.captured.pixels))
        self.said.append(("refocused" if result.refocused else "passed", result.captured.frame))

    def skip(self, frame, reason):
        self.said.append((reason.split(":")[0], frame.frame))

    def close(self, stats):
        stats.check()


def captured(number: int) -> Described:
    pixels = np.full((8, 8), number, np.uint16)
    return Described(CapturedFrame(pixels, number, captured_utc="", captured_ns=0))


@pytest.mark.parametrize("overlap", [1, 2, 3, 5])
def test_order_and_accounts_with_frames_passed_left_out_and_failing_between(overlap: int) -> None:
    engine, told = Counting(overlap, frozenset({4, 9})), Told()
    pipeline = Pipeline(engine, [told], capacity=64)
    run = pipeline.start(RunInfo("run"))
    tasks = [Task.REFOCUS if n % 8 else (Task.PASS, Task.LEAVE)[n // 8 % 2] for n in range(40)]
    for number, task in enumerate(tasks):
        run.queue.put(captured(number), task, "left out")
        pipeline.stats().check()
    assert pipeline.close()
    stats = pipeline.stats().check()

    assert [frame for _, frame in told.said] == list(range(40))  # the order of capture
    assert engine.under_way == 0
    assert engine.most == overlap
    kinds = Counter(what for what, _ in told.said)
    assert kinds == {"refocused": 33, "failed": 2, "passed": 3, "left out": 2}
    assert (stats.received, stats.published, stats.failed, stats.skipped) == (35, 33, 2, 5)


def test_frames_under_way_when_a_run_is_given_up_count_as_failed() -> None:
    engine = Counting(3)
    engine._seconds = 0.3
    pipeline = Pipeline(engine, [], capacity=8)
    run = pipeline.start(RunInfo("run"))
    for number in range(6):
        run.queue.put(captured(number))
    pipeline.close(timeout=0.05)
    stats = pipeline.stats().check()
    assert stats.received == 6
    assert stats.in_flight == 0
    assert stats.dropped + stats.failed == 6
