"""The server, over real sockets: who is let in, and what goes wrong."""

import socket
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from refocus.configs import RefocusError
from refocus.view.page import server, strangers
from refocus.view.page.guard import is_loopback
from refocus.view.page.server import listen

from .wire import get, tab_at

TOKEN = "a-token"


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
    for path in ("/", "/main.js", "/snapshot.ome.tif?serials=1"):
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
        (f"/{TOKEN}/snapshot.ome.tif?serials=1", 404),
        ("/", 403),
        ("/main.js", 403),
        ("/snapshot.ome.tif?serials=1", 403),
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
