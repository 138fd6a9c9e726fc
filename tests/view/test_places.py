import numpy as np
import pytest

from refocus.configs.hosts import is_local
from refocus.stream.messages import FrameHeader, TimesMs
from refocus.stream.subscriber import ReceivedFrame
from refocus.view.ages import Ages
from refocus.view.places import LatestFrames, Place, Shown, Wanted


def header(**changes):
    filled = {
        "run": "r",
        "number": 0,
        "frame": 0,
        "refocused": True,
        "source": "",
        "index": {},
        "channel": "",
        "position_um": {},
        "pixel_size_um": 0.5,
        "exposure_ms": 1.0,
        "camera": "",
        "shape": (4, 4),
        "dtype": "uint8",
        "bit_depth": 8,
        "captured_utc": "2025-01-02T03:04:05+00:00",
        "times_ms": TimesMs(queued=0.0, engine=0.0, published=20.0),
    }
    return FrameHeader.model_validate(filled | changes)


def shown(serial, p=0, c="DAPI", z=0):
    told = header(index={"p": p, "z": z}, channel=c)
    frame = ReceivedFrame(told, np.zeros((4, 4), np.uint8), None, 0)
    return Shown(serial, Place.of(told), frame, 0.0)


def test_the_newest_frame_of_what_is_wanted():
    newest = LatestFrames()
    frames = [shown(1, p=0), shown(2, p=1), shown(3, p=0, c="FITC"), shown(4, p=0, z=2)]
    assert [newest.put(frame) for frame in frames] == [True] * 4
    assert newest.put(shown(5, p=1)) is False
    cases = [
        (Wanted(), 5),
        (Wanted(p=0), 4),
        (Wanted(p=0, c="FITC"), 3),
        (Wanted(p=0, c="DAPI", z=0), 1),
        (Wanted(p=7), None),
    ]
    for wanted, serial in cases:
        found = newest.get(wanted)
        assert (found.serial if found else None) == serial
    assert newest.axes() == {"p": [0, 1], "c": ["DAPI", "FITC"], "z": [0, 2]}
    newest.clear()
    assert newest.get(Wanted()) is None


def test_memory_is_bounded_and_the_last_frame_always_kept():
    newest = LatestFrames(budget=3 * 16)
    for serial in range(10):
        newest.put(shown(serial, p=serial))
    kept = [p for p in range(10) if newest.get(Wanted(p=p))]
    assert kept == [7, 8, 9]
    assert len(newest.axes()["p"]) == 10  # a place whose frame is gone is still offered
    small = LatestFrames(budget=1)
    small.put(shown(1))
    assert small.get(Wanted()).serial == 1


def test_frames_that_were_replaced_are_kept_while_there_is_room():
    kept = LatestFrames(budget=4 * 16)
    for serial, p in enumerate([0, 1, 0, 0, 0]):
        kept.put(shown(serial, p=p))
    assert [bool(kept.held(serial)) for serial in range(5)] == [False, True, True, True, True]
    assert kept.oldest == 2
    for serial in (5, 6, 7):
        kept.put(shown(serial, p=serial))
    # the newest of every place stays longer than any that was replaced
    assert [serial for serial in range(8) if kept.held(serial)] == [4, 5, 6, 7]
    kept.clear()
    assert kept.held(7) is None


def test_the_newest_frame_of_each_channel():
    kept = LatestFrames()
    for serial, c in enumerate(["DAPI", "FITC", "DAPI"]):
        kept.put(shown(serial, c=c))
    kept.put(shown(3, p=1))
    assert [one.serial for one in kept.of_each_channel(Wanted(p=0))] == [1, 2]


@pytest.mark.parametrize(
    ("index", "channel", "place"),
    [
        ({}, "", Place(0, "", 0)),
        ({"t": 3, "p": 2, "c": 1, "z": 4}, "Cy5", Place(2, "Cy5", 4)),
        ({"c": 1}, "", Place(0, "channel 1", 0)),
    ],
)
def test_the_place_of_a_frame(index, channel, place):
    assert Place.of(header(index=index, channel=channel)) == place


@pytest.mark.parametrize(
    ("endpoint", "same"),
    [
        ("tcp://127.0.0.1:5556", True),
        ("tcp://localhost:5556", True),
        ("tcp://[::1]:5556", True),
        ("ipc:///tmp/refocus", True),
        ("tcp://microscope:5556", False),
        ("tcp://192.168.1.4:5556", False),
    ],
)
def test_which_endpoints_share_our_clock(endpoint, same):
    assert is_local(endpoint) is same


def test_ages_by_one_clock_and_between_two():
    captured = 1735787045.0  # header's captured_utc
    assert Ages(one_clock=True).seconds(header(), captured + 0.05) == pytest.approx(0.05)
    assert Ages(one_clock=True).seconds(header(captured_utc="?"), captured) == 0.02
    ahead = 1000.0  # the publisher's clock is behind ours
    remote = Ages(one_clock=False)
    journeys = [0.030, 0.010, 0.050]
    ages = [remote.seconds(header(), captured + ahead + 0.02 + journey) for journey in journeys]
    assert ages == pytest.approx([0.02, 0.02, 0.06], abs=1e-6)
    # a clock that was set is forgiven after two minutes
    later = header(captured_utc="2025-01-02T03:09:05+00:00")
    assert remote.seconds(later, captured + 300 + 2 * ahead) == pytest.approx(0.02, abs=1e-6)
