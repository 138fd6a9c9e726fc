"""What a run tells whoever watches: of a port that was chosen, of a frame that is far off."""

import _thread
import json
import signal
import threading

import pytest

from refocus.acquisition.command import session
from refocus.acquisition.microscopes.devices import SceneCamera
from refocus.configs.live_config import LiveConfig
from refocus.configs.terminal import end_on_signals
from refocus.engine import EngineError
from refocus.engine.fake import FakeEngine

from .test_upstream import Unwatched


def test_a_camera_that_gives_no_frame_is_told_of_and_left(tmp_path, monkeypatch, own_signals):
    exposing, gate, over, told = threading.Event(), threading.Event(), threading.Event(), []
    snap = SceneCamera.snap

    def stuck(camera, buffer):
        exposing.set()
        gate.wait()
        return snap(camera, buffer)

    def send(*signals):
        for each in signals:
            _thread.interrupt_main(each)  # a real one needs more than pytest's stack for signals

    def send_until_over():
        while not over.wait(0.05):  # SIGTERM leaves nothing, and Ctrl-C only the camera
            send(signal.SIGTERM, signal.SIGINT)

    class Watching(Unwatched):
        def begin(self, source, engine):
            threading.Thread(target=lambda: exposing.wait() and send(signal.SIGINT)).start()

        def cancelling(self):
            told.append("cancelling")
            threading.Thread(target=send_until_over).start()

    monkeypatch.setattr(SceneCamera, "snap", stuck)
    report = tmp_path / "report.json"
    before = set(threading.enumerate())
    config = LiveConfig(demo=True, size=64, frames=3, engine="fake", report=report)
    end_on_signals()
    try:
        with pytest.raises(KeyboardInterrupt):
            session.run(config, Watching())
    finally:
        gate.set()
        over.set()
        for thread in set(threading.enumerate()) - before:
            thread.join(60)
    assert told == ["cancelling"]
    assert json.loads(report.read_text())["error"] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("publish", "told"), [("tcp://127.0.0.1:*", 1), ("tcp://127.0.0.1:0", 1), (None, 0)]
)
def test_the_port_that_was_chosen_is_told(publish, told):
    class Watching(Unwatched):
        def publishing(self, endpoint):
            endpoints.append(endpoint)

    endpoints = []
    config = LiveConfig(demo=True, size=64, frames=1, engine="fake", publish=publish)
    session.run(config, Watching())
    assert len(endpoints) == told
    assert all(int(endpoint.rpartition(":")[2]) > 0 for endpoint in endpoints)


def test_an_engine_that_fails_as_it_is_closed_costs_no_report(tmp_path, monkeypatch):
    def fail(engine):
        raise EngineError("the device is gone")

    monkeypatch.setattr(FakeEngine, "close", fail)
    report = tmp_path / "report.json"
    with pytest.raises(EngineError, match="the device is gone"):
        session.run(
            LiveConfig(demo=True, size=64, frames=3, engine="fake", report=report), Unwatched()
        )
    told = json.loads(report.read_text())
    assert told["frames"]["published"] == 3
    assert told["error"] == "the device is gone"
