"""The server, over real sockets: who is let in, and what a tab is given."""

import http.client
import json
import socket
import struct
from collections import defaultdict, deque
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO

import numpy as np
import pytest
import tifffile
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from refocus.configs import RefocusError
from refocus.view.page import server, strangers
from refocus.view.page.guard import is_loopback
from refocus.view.page.packet import Acknowledged, Pinged, decode
from refocus.view.page.server import listen
from refocus.view.places import Wanted

TOKEN = "a-token"


def get(host, path, **headers):
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


class Tab:
    """A page without a browser."""

    def __init__(self, socket):
        self.socket = socket
        self.heard = defaultdict(deque)

    def say(self, kind, **content):
        self.socket.send(json.dumps({"type": kind, **content}))

    def hear(self, kind):
        """Give the next message of a kind; "frame" is one of bytes."""
        while not self.heard[kind]:
            message = self.socket.recv(timeout=30)
            if isinstance(message, bytes):
                self.heard["frame"].append(self.read(message))
            else:
                content = json.loads(message)
                self.heard[content["type"]].append(content)
        return self.heard[kind].popleft()

    @staticmethod
    def read(message):
        (length,) = struct.unpack_from("<I", message)
        header = json.loads(message[4 : 4 + length])
        pixels = np.frombuffer(message[4 + length :], np.dtype(header["dtype"]).newbyteorder("<"))
        return header, pixels.reshape(-1, *header["shape"])

    def frame(self):
        header, images = self.hear("frame")
        self.say("ack", serial=header["serial"])
        return header, images


@contextmanager
def tab_at(host, root="", **headers):
    with connect(f"ws://{host}{root}/stream", additional_headers=headers, max_size=None) as socket:
        yield Tab(socket)


@pytest.fixture
def tab(viewer):
    with tab_at(viewer[0]) as tab:
        yield tab


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),  # through a tunnel
        ({"Host": "[::1]:1"}, 200),
        ({"Host": "evil.example:8765"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "127.0.0.1:1", "Origin": "http://127.0.0.1:1"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Host": "127.0.0.1:1", "Origin": "http://127.0.0.1:2"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_on_loopback_only_by_its_own_name_and_for_its_own_page(viewer, headers, status):
    host, _ = viewer
    for path in ("/", "/main.js", "/snapshot.tif?serial=1"):
        response, body = get(host, path, **headers)
        assert response.status == (404 if status == 200 and "snapshot" in path else status)
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["Server"] is None
    if status == 403:
        assert body.startswith(b"refocus-view: ")
        names = {"additional_headers": {k: v for k, v in headers.items() if k == "Origin"}}
        if "Origin" in headers and "Host" not in headers:
            with pytest.raises(InvalidStatus, match="403"), connect(f"ws://{host}/stream", **names):
                pass


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/{TOKEN}/", 200),
        (f"/{TOKEN}/main.js", 200),
        (f"/{TOKEN}", 307),
        (f"/{TOKEN}/snapshot.tif?serial=1", 404),
        ("/", 403),
        ("/main.js", 403),
        ("/snapshot.tif?serial=1", 403),
        (f"/{TOKEN}x/", 403),
        (f"/{TOKEN[:-1]}/", 403),
        ("/%C3%A4/", 403),
        (f"//{TOKEN}/", 403),
    ],
)
def test_beyond_loopback_nothing_without_the_token(stream, serving, path, status):
    with serving(stream.endpoint, TOKEN) as (host, _):
        response, _body = get(host, path, Host="microscope:1")
        assert response.status == status
        if status == 307:
            assert response.headers["Location"] == f"/{TOKEN}/"


@pytest.mark.parametrize("root", ["", "/wrong"])
def test_no_websocket_without_the_token(stream, serving, root):
    with serving(stream.endpoint, TOKEN) as (host, _):
        with pytest.raises(InvalidStatus, match="403"), tab_at(host, root):
            pass
        with tab_at(host, f"/{TOKEN}") as tab:
            assert tab.hear("hello")["endpoint"] == stream.endpoint


def test_nothing_outside_the_pages_folder_is_served(viewer):
    for path in ("/../cli.py", "/%2e%2e/cli.py", "/..%2fcli.py", "/static/../../pyproject.toml"):
        assert get(viewer[0], path)[0].status == 404


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
    tab.say("select", p=1, c=None, z=None)
    assert tab.frame()[0]["number"] == 1
    stream.frame(gradient((4, 4)), index={"p": 0})
    stream.frame(gradient((4, 4)), index={"p": 1})
    assert tab.frame()[0]["number"] == 4
    tab.say("select")
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
    ["", "{", "[]", "3", "null", '{"type": "ack"}', '{"type": "select", "p": "x"}', '{"type": 3}'],
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
        ('{"type": "select", "p": 1, "c": "DAPI", "z": null}', Wanted(1, "DAPI", None)),
        ('{"type": "select"}', Wanted()),
    ],
)
def test_what_a_tab_may_say(text, message):
    assert decode(text) == message


def test_a_snapshot_holds_the_exact_pixels_and_all_that_is_known(stream, viewer, gradient):
    host, _ = viewer
    refocused = gradient((6, 7))
    stream.run()
    trust = {"verdict": "refocused", "score": 0.9, "share": 1.0}
    with tab_at(host) as tab:
        stream.frame(refocused, np.invert(refocused), index={"p": 1}, channel="a/b", trust=trust)
        header, _ = tab.frame()
        for _ in range(2):  # newer ones do not replace what is on the screen
            stream.frame(refocused // 2, refocused)
            tab.frame()
        response, body = get(host, f"/snapshot.tif?serial={header['serial']}")
        assert response.status == 200
        assert response.headers["Content-Type"] == "image/tiff"
        name = "refocus_first_frame000000_p1_a_b.tif"
        assert name in response.headers["Content-Disposition"]
        with tifffile.TiffFile(BytesIO(body)) as tiff:
            captured, ours = tiff.pages
            np.testing.assert_array_equal(captured.asarray(), np.invert(refocused))
            np.testing.assert_array_equal(ours.asarray(), refocused)
            told = [json.loads(page.description) for page in tiff.pages]
            assert ours.tags["XResolution"].value == (20000, 1)  # pixels per cm, 0.5 µm each
        assert [one["page"] for one in told] == ["captured", "refocused"]
        assert told[0]["trust"]["verdict"] == "refocused"
        assert (told[0]["channel"], told[0]["schema"]) == ("a/b", "refocus/1")
    assert get(host, "/snapshot.tif?serial=99")[0].status == 404
    assert get(host, "/snapshot.tif?serial=x")[0].status == 400
    newest, body = get(host, f"/snapshot.tif?serial={header['serial'] + 2}")
    assert newest.status == 200  # without any tab


def test_the_socket_says_why_it_cannot_listen():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RefocusError, match=f"port {port}: in use by another program"):
            listen("127.0.0.1", port)
    with pytest.raises(RefocusError, match="not an address of this computer"):
        listen("203.0.113.5", 0)


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("LOCALHOST", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("microscope", False),
        ("", False),
    ],
)
def test_what_is_loopback(host, alone):
    assert is_loopback(host) is alone


def test_a_tab_whose_sender_fails_is_let_go_to_begin_anew(viewer, monkeypatch, caplog):
    host, feed = viewer
    with monkeypatch.context() as broken:
        broken.setattr(feed, "points", lambda since: 1 / 0)
        with tab_at(host) as tab, pytest.raises(ConnectionClosedError) as closed:
            tab.hear("frame")
    assert closed.value.rcvd.code == 1011
    assert "a tab could not be served: division by zero" in caplog.text
    with tab_at(host) as tab:
        assert tab.hear("hello")


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux lets go of it so")
def test_a_tab_that_takes_nothing_any_more_is_let_go(stream, serving, monkeypatch, eventually):
    monkeypatch.setattr(server, "UNREAD_MS", 1000)
    frame = np.zeros((2048, 2048), np.uint16)  # more than the buffers of the network hold
    with serving(stream.endpoint) as (host, feed), socket.socket() as tab:
        stream.wait_reader()
        tab.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        name, _, port = host.partition(":")
        tab.connect((name, int(port)))
        asked = ["GET /stream HTTP/1.1", f"Host: {host}", "Connection: Upgrade"]
        asked += ["Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        asked += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
        tab.sendall("\r\n".join([*asked, "", ""]).encode())
        eventually(lambda: feed._wakers)
        stream.run()
        stream.frame(frame, frame)
        eventually(lambda: not feed._wakers)


@pytest.mark.parametrize("says", [b"", b"GET / HTTP/1.1\r\nHost: 127", b"POST /x HTTP/1.1\r\n"])
def test_half_a_request_is_waited_for_a_while_and_makes_room(viewer, monkeypatch, says):
    monkeypatch.setattr(strangers, "MOST_STRANGERS", 8)
    monkeypatch.setattr(strangers, "STRANGER_S", 0.5)
    host, port = viewer[0].split(":")
    with ExitStack() as stack:
        made = []
        with tab_at(viewer[0]) as tab:
            for _ in range(20):
                one = stack.enter_context(socket.create_connection((host, int(port)), 30))
                one.sendall(says)
                made.append(one)
            assert get(viewer[0], "/")[0].status == 200
            for one in made:
                with suppress(ConnectionResetError):
                    assert one.recv(1) == b""
            tab.say("ping", sent=1)  # who was let in stays
            assert tab.hear("pong")["sent"] == 1
