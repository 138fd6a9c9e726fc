"""Whether a reader's socket has a publisher at its other end: what ZeroMQ does not tell by itself.

A subscriber that hears nothing may be early, idle, or refused for its keys. The socket's monitor
knows which.
"""

import time
from contextlib import suppress
from typing import Any, Literal

import zmq
from zmq.utils.monitor import recv_monitor_message

RENEW_S, MOST_RENEW_S = 3.0, 15.0
"""A link that does not come about is made anew after so long: first, and at most."""

LinkState = Literal["connecting", "connected", "refused"]
"""``connecting``: nobody is there. ``refused``: somebody is, who wants other keys, or none."""

_REFUSED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | _REFUSED


class Link:
    """Follows the connection of one socket; to be made before the socket connects.

    Parameters
    ----------
    socket
        A socket with one peer. It and the link are used from one thread.
    endpoint
        Where it connects.
    """

    def __init__(self, socket: "zmq.Socket[bytes]", endpoint: str) -> None:
        self._socket, self._endpoint = socket, endpoint
        self._renewed, self._renew_s = time.monotonic(), RENEW_S
        self._monitor: Any = socket.get_monitor_socket(_WATCHED)
        self._state: LinkState = "connecting"

    def state(self) -> LinkState:
        """Tell how the connection stands now; never blocks."""
        while self._monitor is not None and self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._state = "connected"
            elif event & _REFUSED:
                self._state = "refused"
            elif self._state == "connected" or event == zmq.EVENT_CLOSED:
                # after a refusal the socket is disconnected, too, and tries again
                self._state = "connecting"
        return self._state

    def renew(self) -> LinkState:
        """Connect anew where nothing came about: ZeroMQ gives up for good after a bad handshake."""
        now, state = time.monotonic(), self.state()
        if state == "connected":
            self._renewed, self._renew_s = now, RENEW_S
        elif now - self._renewed > self._renew_s:
            self._renewed, self._renew_s = now, min(2 * self._renew_s, MOST_RENEW_S)
            with suppress(zmq.ZMQError):  # it was given up
                self._socket.disconnect(self._endpoint)
            self._socket.connect(self._endpoint)
        return state

    def close(self) -> None:
        """Stop following, before the socket is closed. May be called twice."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            self._monitor = None
