"""What brings pictures to the napari widget; no Qt in here."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import useq
import zmq

from refocus.acquisition.hook import attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.view.napari.feed import CoreFeed, EndpointFeed, Handover, Picture

ENDPOINT = "tcp://127.0.0.1:*"


def picture(frame: int, channel: str = "DAPI") -> Picture:
    pixels = np.full((4, 5), frame, np.uint16)
    return Picture(pixels, pixels, channel, 0.65, 12, frame, 1.0, True)


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("wanted", "frames", "taken"),
    [
        (None, [], None),
        (None, [(0, "DAPI")], 0),
        (None, [(0, "DAPI"), (1, "FITC"), (2, "DAPI")], 2),
        ("FITC", [(0, "DAPI"), (1, "FITC"), (2, "DAPI")], 1),
        ("Cy5", [(0, "DAPI")], None),
        ("", [(0, ""), (1, "DAPI")], 0),
    ],
)
def test_the_newest_of_the_channel_is_handed_over_once(
    wanted: str | None, frames: list[tuple[int, str]], taken: int | None
) -> None:
    handover = Handover()
    handover.channel = wanted
    for frame in frames:
        handover.put(picture(*frame))
    found = handover.take()
    assert (found.frame if found else None) == taken
    assert handover.take() is None
    assert handover.passed == len(frames)
    assert handover.channels == list(dict.fromkeys(channel for _, channel in frames))


def acquire(microscope: SimulatedMicroscope, frames: int, channel: str = "") -> None:
    plan = {"interval": 0, "loops": frames}
    microscope.core.mda.run(useq.MDASequence(time_plan=plan))


def test_a_core_of_this_process(microscope: SimulatedMicroscope) -> None:
    handover = Handover()
    feed = CoreFeed(microscope.core, handover, FakeEngine())
    feed.start()
    until(lambda: feed.status.startswith("attached"))
    acquire(microscope, 3)
    until(lambda: feed.status.startswith("the run is over: "))
    shown = handover.take()
    assert shown
    assert shown.frame == 2
    assert (shown.pixel_size_um, shown.bit_depth) == (pytest.approx(0.656), 16)
    np.testing.assert_array_equal(shown.refocused, np.invert(shown.captured))
    for pixels in (shown.captured, shown.refocused):
        with pytest.raises(ValueError, match="read-only"):
            pixels[0, 0] = 0
    feed.stop()
    until(lambda: not feed._thread.is_alive())
    acquire(microscope, 1)
    assert handover.take() is None


def test_the_live_view_of_a_core(microscope: SimulatedMicroscope) -> None:
    handover = Handover()
    feed = CoreFeed(microscope.core, handover, FakeEngine())
    feed.start()
    until(lambda: feed.status.startswith("attached"))
    microscope.core.startContinuousSequenceAcquisition(1)
    until(lambda: handover.passed > 2)
    microscope.core.stopSequenceAcquisition()
    feed.stop()
    until(lambda: not feed._thread.is_alive())


@pytest.mark.parametrize("publish_raw", [True, False])
def test_a_publisher_run_after_run(microscope: SimulatedMicroscope, publish_raw: bool) -> None:
    handover = Handover()
    with attach(
        microscope.core, engine=FakeEngine(), publish=ENDPOINT, publish_raw=publish_raw
    ) as live:
        assert live.endpoint
        feed = EndpointFeed(live.endpoint, handover)
        feed.start()
        assert live.wait_subscribers(1, 30.0)
        for run in (1, 2):
            acquire(microscope, 3)
            until(lambda run=run: handover.passed == 3 * run)
            until(lambda: feed.status == "the run is over: 3 frames")
            shown = handover.take()
            assert shown
            assert shown.frame == 2
            assert (shown.captured is not None) is publish_raw
            if publish_raw:
                np.testing.assert_array_equal(shown.refocused, np.invert(shown.captured))
        feed.stop()
    until(lambda: not feed._thread.is_alive())


def test_what_was_passed_through_is_shown_as_captured(microscope: SimulatedMicroscope) -> None:
    from refocus.acquisition import Selection

    handover = Handover()
    nothing = Selection(channels={"other": "fake"})
    with attach(microscope.core, engine=FakeEngine(), publish=ENDPOINT, selection=nothing) as live:
        assert live.endpoint
        feed = EndpointFeed(live.endpoint, handover)
        feed.start()
        assert live.wait_subscribers(1, 30.0)
        acquire(microscope, 2)
        until(lambda: handover.passed == 2)
        feed.stop()
    shown = handover.take()
    assert shown
    assert not shown.was_refocused
    assert shown.captured is shown.refocused


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [("C:\\pipe", "not one to connect to"), ("tcp://", "not one to connect to")],
)
def test_an_endpoint_that_is_none_is_refused_at_once(endpoint: str, said: str) -> None:
    with pytest.raises(RefocusError, match=said):
        EndpointFeed(endpoint, Handover())


def test_keys_that_are_not_there_are_refused_at_once(tmp_path) -> None:
    with pytest.raises(RefocusError, match="none"):
        EndpointFeed("tcp://127.0.0.1:5556", Handover(), tmp_path / "none")


def test_another_schema_is_said_and_the_feed_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refocus.view.napari.feed.SILENCE_S", 0.2)
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        handover = Handover()
        feed = EndpointFeed(f"tcp://127.0.0.1:{port}", handover)
        feed.start()
        until(lambda: "nothing heard for 0.2 s" in feed.status)

        def send_until(said: str) -> None:
            def sent() -> bool:
                publisher.send_multipart([b"refocus.run", b'{"schema": "refocus/9"}'])
                return said in feed.status

            until(sent)

        send_until("of schema 'refocus/9'")
        until(lambda: "nothing heard" in feed.status)
        feed.stop()
        until(lambda: not feed._thread.is_alive())


def test_a_core_whose_engine_cannot_be_opened_says_so(microscope: SimulatedMicroscope) -> None:
    feed = CoreFeed(microscope.core, Handover(), "none.onnx")
    feed.start()
    until(lambda: "none.onnx: no such model" in feed.status)
    until(lambda: not feed._thread.is_alive())
