"""What a tab is given, over real sockets."""

import numpy as np
import pytest

from refocus.view.page.packet import Acknowledged, Pinged, Recalled, Selected, decode
from refocus.view.places import Wanted

from .wire import tab_at


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_frames_come_bit_identical_with_their_header(stream, tab, gradient, dtype):
    refocused = gradient((6, 7), dtype)
    stream.run()
    stream.frame(refocused, np.invert(refocused), index={"p": 1, "z": 2}, channel="FITC")
    header, images = tab.frame()
    np.testing.assert_array_equal(images, [refocused, np.invert(refocused)])
    assert header["place"] == {"p": 1, "c": "FITC", "z": 2}
    assert (header["has_raw"], header["lost"], header["frame"]) == (True, 0, 0)
    stream.frame(refocused)  # and one without the captured pixels
    header, images = tab.frame()
    assert not header["has_raw"]
    np.testing.assert_array_equal(images, [refocused])


def test_frames_may_change_their_size_and_depth(stream, tab, gradient):
    stream.run()
    for shape, dtype in [((6, 7), np.uint16), ((9, 4), np.uint8), ((1, 1), np.uint16)]:
        sent = gradient(shape, dtype)
        stream.frame(sent, sent)
        header, images = tab.frame()
        assert (tuple(header["shape"]), header["dtype"]) == (shape, np.dtype(dtype).name)
        np.testing.assert_array_equal(images[0], sent)


def test_a_slow_tab_gets_the_newest_frame_and_no_backlog(stream, viewer, gradient, eventually):
    host, feed = viewer
    picture = gradient((4, 4))
    stream.run()
    with tab_at(host) as slow, tab_at(host) as quick:
        stream.frame(picture)
        first, _ = slow.hear("frame")  # not acknowledged yet
        assert first["number"] == 0
        seen = [quick.frame()[0]["number"]]
        for _ in range(20):
            stream.frame(picture)
            seen.append(quick.frame()[0]["number"])
        assert seen == list(range(21))  # the slow one holds nobody up
        slow.say("ack", serial=first["serial"] + 5)  # not what was sent: passed over
        slow.say("ping", sent=1.5)
        assert slow.hear("pong")["sent"] == 1.5
        slow.say("ack", serial=first["serial"])
        assert slow.frame()[0]["number"] == 20
    assert feed.newest(Wanted()).frame.header.number == 20


def test_a_tab_sees_what_it_selects(stream, tab, gradient):
    stream.run()
    for p, c in [(0, "DAPI"), (1, "DAPI"), (0, "FITC")]:
        stream.frame(gradient((4, 4)), index={"p": p}, channel=c)
        tab.frame()
    tab.select(p=1, c=None, z=None)
    assert tab.frame()[0]["number"] == 1
    stream.frame(gradient((4, 4)), index={"p": 0})
    stream.frame(gradient((4, 4)), index={"p": 1})
    assert tab.frame()[0]["number"] == 4
    tab.select()
    stream.frame(gradient((4, 4)), index={"p": 0})
    assert tab.frame()[0]["number"] == 5


def test_the_state_of_the_stream_and_its_time_line(stream, tab, gradient):
    stream.run()
    stream.frame(gradient((4, 4)), index={"p": 1})
    stream.stats(queued=3, frames={"dropped": 2}, verdicts={"refocused": 1})
    state = tab.hear("state")
    while not state["stats"]:
        state = tab.hear("state")
    assert state["phase"] == "running"
    assert state["run"]["engine"]["name"] == "openvino"
    assert state["run"]["engine"]["version"] == "1"
    assert state["run"]["positions"] == ["left", "right"]
    assert state["stats"]["verdicts"] == {"refocused": 1}
    assert state["places"] == {"p": [1], "c": ["DAPI"], "z": [0]}
    (point,) = tab.hear("points")["points"]
    assert (point["queued"], point["dropped"], point["latency_ms"]) == (3, 2, 5.0)


def test_a_tab_that_comes_late_gets_the_time_line_and_the_last_frame(stream, viewer, gradient):
    host, _ = viewer
    stream.run()
    with tab_at(host) as early:
        for number in range(3):
            stream.frame(gradient((4, 4)))
            stream.stats(queued=number)
            early.frame()
            early.hear("points")
        with tab_at(host) as late:
            assert [point["queued"] for point in late.hear("points")["points"]] == [0, 1, 2]
            # and only the last frame of the three
            assert late.frame()[0]["number"] == 2


def test_another_schema_is_told_and_forgotten(stream, tab):
    phases = []

    def until(phase):
        while (state := tab.hear("state"))["phase"] != phase:
            phases.append(state["phase"])
        return state

    stream.foreign()
    assert "refocus/9" in until("foreign")["fault"]
    stream.run()
    assert until("running")["fault"] == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"type": "ack"}',
        '{"type": "select", "p": "x"}',
        '{"type": "recall"}',
        '{"type": 3}',
        pytest.param("[" * 60_000, id="deep"),
    ],
)
def test_what_a_tab_should_not_say_is_passed_over(stream, tab, gradient, text):
    assert decode(text) is None
    tab.socket.send(text)
    stream.run()
    stream.frame(gradient((4, 4)))
    assert tab.frame()[0]["number"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type": "ack", "serial": 3}', Acknowledged(3)),
        ('{"type": "ping", "sent": 2.5}', Pinged(2.5)),
        ('{"type": "select", "p": 1, "c": "DAPI", "z": null}', Selected(Wanted(1, "DAPI", None))),
        ('{"type": "select"}', Selected(Wanted())),
        ('{"type": "select", "p": 1, "each": true}', Selected(Wanted(1), each=True)),
        ('{"type": "recall", "serial": 4}', Recalled(4)),
        ('{"type": "recall", "serial": null}', Recalled(None)),
    ],
)
def test_what_a_tab_may_say(text, message):
    assert decode(text) == message


def test_every_channel_of_a_place_in_turn(stream, tab, gradient):
    stream.run()
    tab.select(p=0, c=None, z=None, each=True)
    for p, c in [(0, "DAPI"), (0, "FITC"), (1, "Cy5"), (0, "Cy5")]:
        stream.frame(gradient((4, 4)), index={"p": p}, channel=c)
    first = [tab.frame()[0] for _ in range(3)]
    assert [one["channel"] for one in first] == ["DAPI", "FITC", "Cy5"]
    stream.frame(gradient((4, 4)), index={"p": 0}, channel="FITC")
    assert (tab.frame()[0]["number"], stream.number) == (4, 5)


def test_an_earlier_frame_is_shown_until_the_page_goes_on(stream, tab, gradient):
    pictures = [gradient((4, 4)) // (number + 1) for number in range(4)]
    stream.run()
    serials = []
    for picture in pictures[:3]:
        stream.frame(picture)
        serials.append(tab.frame()[0]["serial"])
    tab.say("recall", serial=serials[0])
    header, images = tab.frame()
    assert header["number"] == 0
    np.testing.assert_array_equal(images[0], pictures[0])
    stream.frame(pictures[3])
    tab.say("recall", serial=serials[1])
    assert tab.frame()[0]["number"] == 1  # and not what came meanwhile
    tab.say("recall", serial=None)
    assert tab.frame()[0]["number"] == 3


def test_a_frame_that_is_not_kept_is_told_and_the_page_goes_on(stream, tab, gradient):
    stream.run()
    stream.frame(gradient((4, 4)))
    tab.frame()
    tab.say("recall", serial=99)
    assert tab.hear("gone")["serial"] == 99
    stream.frame(gradient((4, 4)))
    assert tab.frame()[0]["number"] == 1


def test_what_is_remembered_of_each_frame(stream, tab, gradient):
    stream.run()
    focus = {"distance_um": 7.5, "sigma_um": 0.5}
    trust = {"verdict": "beyond", "score": 0.25, "share": 0.0}
    stream.frame(gradient((4, 4)), index={"p": 1}, focus=focus, trust=trust)
    told = tab.hear("marks")
    (mark,) = told["marks"]
    assert (told["run"], told["kept"]) == ("first", mark["serial"])
    assert (mark["p"], mark["c"], mark["z"], mark["x"]) == (1, "DAPI", 0, 1.0)
    assert (mark["um"], mark["sigma"], mark["verdict"], mark["score"]) == (7.5, 0.5, "beyond", 0.25)
    stream.run("second")
    stream.frame(gradient((4, 4)))
    told = tab.hear("marks")
    assert (told["run"], len(told["marks"])) == ("second", 1)
    assert "um" not in told["marks"][0]
