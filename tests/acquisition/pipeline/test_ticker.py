"""The thread that looks after the others, and those that it looks after, outlive what is raised."""

import threading

import pytest

from refocus.acquisition.pipeline.arrival import Described
from refocus.acquisition.pipeline.deferred import DeferredFrames
from refocus.acquisition.pipeline.events import LiveEvents
from refocus.acquisition.pipeline.pipeline import Pipeline, RunInfo
from refocus.acquisition.pipeline.queue import FrameQueue, make_policy
from refocus.acquisition.pipeline.run import Run
from refocus.acquisition.pipeline.ticker import Ticker
from refocus.engine.fake import FakeEngine

from ...conftest import Keep
from .test_pipeline import captured


class Panic(BaseException):
    """As a library written in another language may raise."""


class Raising(Keep):
    """A sink whose tick raises."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def tick(self, stats):
        raise self._error


@pytest.mark.parametrize("error", [OSError(116, "Stale file handle"), SystemExit(1), Panic("out")])
@pytest.mark.parametrize("where", ["check", "sink", "ticked", "queue_full"])
def test_nothing_that_is_raised_ends_the_ticker(where, error, caplog):
    again, turns = threading.Event(), []

    def fail(stats=None):
        raise error

    def check():
        turns.append(where)
        if len(turns) > 2:
            again.set()
        if where == "check":
            fail()

    events, run = LiveEvents(), Run(RunInfo("run"), FrameQueue(make_policy("newest"), 1))
    if where in ("ticked", "queue_full"):
        getattr(events, where).connect(fail)
    ticker = Ticker(
        events, [Raising(error)] if where == "sink" else [], 0.01, run=lambda: run, check=check
    )
    for number in range(2):
        run.queue.put(Described(captured(number)))
    ticker.wake()
    assert again.wait(30)
    ticker.stop(30)
    assert str(error) in caplog.text


def test_deferred_frames_that_cannot_be_closed_do_not_end_the_worker(monkeypatch):
    class Raw:
        def start(self, run):
            pass

        def read(self, frame):
            return None

    real = DeferredFrames.close

    def close(self):
        real(self)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DeferredFrames, "close", close)
    pipeline = Pipeline(FakeEngine(), policy="every", raw=Raw())
    for _ in range(2):
        run = pipeline.start(RunInfo("run"))
        pipeline.submit(captured(0))
        pipeline.finish()
        assert run.over.wait(30)
    assert pipeline.close(30)
    assert any("No space left" in text for text in run.problems)
