import logging
import threading
import time

import numpy as np
import pytest

from refocus.acquisition.pipeline.frame import CapturedFrame
from refocus.acquisition.pipeline.pipeline import Pipeline, RunInfo
from refocus.acquisition.pipeline.sink import Refused
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine


def captured(number, shape=(8, 8), dtype=np.uint16):
    return CapturedFrame(
        pixels=np.full(shape, number, dtype),
        frame=number,
        captured_utc="",
        captured_ns=time.perf_counter_ns(),
    )


class Notes:
    """A sink that writes down what it is told, and raises where it should."""

    def __init__(self, raise_in="", on=0):
        self.said = []
        self.threads = set()
        self._raise_in, self._on = raise_in, on

    def _note(self, what, value):
        self.said.append((what, value))
        self.threads.add(threading.current_thread().name)
        if what == self._raise_in and value in (self._on, None):
            raise OSError("no space left")

    def start(self, run):
        self._note("start", None)

    def put(self, result):
        assert result.refocused
        np.testing.assert_array_equal(result.pixels, np.invert(result.captured.pixels))
        self._note("put", result.number)

    def skip(self, frame, reason):
        assert not frame.pixels.any()
        self._note("skip", frame.frame)

    def close(self, stats):
        assert stats.in_flight == 0
        stats.check()
        self._note("close", None)


class Hanging(FakeEngine):
    """An engine that does not return until told."""

    def __init__(self):
        super().__init__()
        self.entered, self.go_on = threading.Event(), threading.Event()

    def refocus(self, frame):
        self.entered.set()
        self.go_on.wait()
        return super().refocus(frame)


class Misshapen(FakeEngine):
    def refocus(self, frame):
        return super().refocus(frame)[1:]


def acquire(frames, engine=None, sinks=(), **settings):
    """One whole run; gives the final stats and the run."""
    pipeline = Pipeline(engine or FakeEngine(), sinks, **settings)
    run = pipeline.start(RunInfo("run"))
    for frame in frames:
        pipeline.submit(frame)
        pipeline.stats().check()
    assert pipeline.close()
    return pipeline.stats().check(), run


def test_every_frame_reaches_every_sink_in_order_from_one_thread():
    first, second = Notes(), Notes()
    stats, run = acquire(map(captured, range(20)), sinks=[first, second], throttle=True)
    assert first.said == second.said
    assert first.said == [("start", None), *(("put", n) for n in range(20)), ("close", None)]
    assert first.threads == {"refocus-worker"}
    assert (stats.received, stats.published) == (20, 20)
    assert 0 < stats.engine_ms.p50 <= stats.latency_ms.p50 <= stats.latency_ms.max
    assert stats.fps > 0
    assert not run.problems


UNSUPPORTED = "unsupported; set the camera to one channel of 8 or 16 bits"


@pytest.mark.parametrize(
    ("frames", "engine", "failed", "says"),
    [
        ([captured(n) for n in range(5)], FakeEngine(fail_on={1, 3}), [1, 3], "told to fail"),
        ([captured(0)], Misshapen(), [0], "the engine returned (7, 8) uint16 for (8, 8) uint16"),
        ([captured(0, (8, 8, 3)), captured(1)], FakeEngine(), [0], UNSUPPORTED),
        ([captured(0, dtype=np.float32), captured(1)], FakeEngine(), [0], UNSUPPORTED),
        ([captured(n, dtype=np.uint32) for n in range(3)], FakeEngine(), [0, 1, 2], UNSUPPORTED),
    ],
    ids=["engine raises", "wrong shape", "three channels", "float", "32 bits"],
)
def test_a_frame_that_fails_is_counted_and_logged_and_the_run_goes_on(
    frames, engine, failed, says, caplog
):
    notes = Notes()
    notes.skip = lambda frame, reason: notes.said.append(("skip", frame.frame))
    stats, run = acquire(frames, engine, [notes], throttle=True)
    assert stats.failed == len(failed)
    assert stats.published == len(frames) - len(failed)
    assert [n for what, n in notes.said if what == "skip"] == failed
    assert [n for what, n in notes.said if what == "put"] == list(range(stats.published))
    assert any(says in problem for problem in run.problems)
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert 1 <= len(errors) <= 2  # the first of its kind, and the sum at the end
    assert all("\n" not in r.getMessage() for r in errors)


@pytest.mark.parametrize(
    ("raise_in", "published", "failed"),
    [("start", 0, 6), ("put", 2, 4), ("close", 6, 0)],
)
def test_a_sink_that_fails_is_left_out_and_the_others_go_on(raise_in, published, failed, caplog):
    broken, fine = Notes(raise_in, on=2), Notes()
    stats, run = acquire(map(captured, range(6)), sinks=[broken, fine], throttle=True)
    assert (stats.published, stats.failed) == (published, failed)
    assert [n for what, n in fine.said if what == "put"] == list(range(6))
    assert broken.said[-1] == ("close", None)
    assert list(run.problems) == ["Notes left out of the run: OSError: no space left"]
    assert "no space left" in caplog.text


def test_a_sink_that_refuses_a_frame_gets_those_that_follow(keep):
    class Picky(type(keep)):
        def put(self, result):
            if result.captured.frame == 1:
                raise Refused("too small")
            super().put(result)

    picky = Picky()
    pipeline = Pipeline(FakeEngine(), [picky])
    run = pipeline.start(RunInfo("r"))
    for number in range(3):
        pipeline.submit(CapturedFrame(np.ones((40, 40), np.uint16), number, "", number))
    assert pipeline.close(10)
    stats = run.stats().check()
    assert (stats.published, stats.failed) == (2, 1)
    assert [r.captured.frame for r in picky.results] == [0, 2]
    assert run.problems == {"too small": 1}


def test_an_engine_slower_than_the_camera_drops_the_oldest():
    engine, notes = Hanging(), Notes()
    pipeline = Pipeline(engine, [notes], capacity=2)
    pipeline.start(RunInfo("run"))
    pipeline.submit(captured(0))
    assert engine.entered.wait(10)
    for number in range(1, 6):
        pipeline.submit(captured(number))
    stats = pipeline.stats().check()
    assert (stats.dropped, stats.in_flight, stats.queued) == (3, 3, 2)
    engine.go_on.set()
    assert pipeline.close()
    assert pipeline.stats().check().published == 3
    assert [("skip", n) for n in (1, 2, 3)] == [note for note in notes.said if note[0] == "skip"]


def test_an_engine_that_never_returns_cannot_hold_up_the_end(caplog):
    engine, notes = Hanging(), Notes()
    pipeline = Pipeline(engine, [notes], capacity=2)
    pipeline.start(RunInfo("run"))
    for number in range(3):
        pipeline.submit(captured(number))
    assert engine.entered.wait(10)
    assert not pipeline.close(timeout=0.05)
    stats = pipeline.stats().check()
    assert stats.failed == 1
    assert stats.dropped == 2
    assert notes.said[-1] == ("close", None)
    assert "does not return" in caplog.text
    engine.go_on.set()
    assert pipeline.close()
    assert pipeline.stats().check().published == 0  # it came back too late


def test_runs_follow_one_another_with_numbers_of_their_own():
    notes = Notes()
    pipeline = Pipeline(FakeEngine(seconds=0.001), [notes], capacity=50)
    for run in range(3):
        pipeline.start(RunInfo(str(run)))
        for number in range(10):
            pipeline.submit(captured(number))
    assert pipeline.close()
    one = [("start", None), *(("put", n) for n in range(10)), ("close", None)]
    assert notes.said == 3 * one
    stats = pipeline.stats().check()
    assert (stats.run, stats.published) == ("2", 10)


def test_a_frame_that_cannot_be_described_fails_alone():
    class Odd:
        def describe(self):
            raise KeyError("camera_device")

        def without_pixels(self):
            return self

    pipeline = Pipeline(FakeEngine())
    run = pipeline.start(RunInfo("run"))
    run.queue.put(Odd())
    pipeline.submit(captured(1))
    assert pipeline.close()
    stats = pipeline.stats().check()
    assert (stats.failed, stats.published) == (1, 1)


def test_the_ticker_gives_stats_even_while_the_engine_hangs():
    class Watching(Notes):
        ticked = threading.Event()

        def tick(self, stats):
            assert stats.check().received == 1
            self.ticked.set()

    engine, watching = Hanging(), Watching()
    pipeline = Pipeline(engine, [watching], tick_seconds=0.01)
    pipeline.start(RunInfo("run"))
    pipeline.submit(captured(0))
    assert engine.entered.wait(10)
    watching.ticked.clear()
    assert watching.ticked.wait(10)
    engine.go_on.set()
    assert pipeline.close()
    pipeline.stats().check()


def test_the_engine_is_warm_before_frame_0():
    class Warming(FakeEngine):
        warm = ()

        def warm_up(self, shape, dtype):
            self.warm += ((shape, dtype),)

    engine = Warming()
    pipeline = Pipeline(engine)
    for _ in range(2):
        pipeline.start(RunInfo("run", camera={"height": 8, "width": 9, "dtype": "uint16"}))
        assert engine.warm == (((8, 9), np.dtype(np.uint16)),)
    pipeline.start(RunInfo("run", camera={"height": 8, "width": 8, "dtype": "float32"}))
    assert len(engine.warm) == 1
    assert pipeline.close()
    pipeline.stats().check()


def test_no_thread_is_left_and_misuse_is_told():
    before = threading.active_count()
    pipeline = Pipeline(FakeEngine())
    with pytest.raises(RefocusError, match="no run in progress"):
        pipeline.submit(captured(0))
    pipeline.stats().check()
    assert pipeline.close()
    assert pipeline.close()
    with pytest.raises(RefocusError, match="closed"):
        pipeline.start(RunInfo("run"))
    assert threading.active_count() == before


def test_a_thousand_kinds_of_problems_fill_neither_memory_nor_the_log(caplog):
    class Babbling(FakeEngine):
        def refocus(self, frame):
            raise ValueError(f"in frame {self.calls}")

    stats, run = acquire(map(captured, range(200)), Babbling(), throttle=True)
    assert stats.failed == 200
    assert len(run.problems) == 51
    assert sum(run.problems.values()) == 200
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) <= 52
