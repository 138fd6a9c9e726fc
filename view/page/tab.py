"""One browser tab: it gets the newest frame once it has taken the last, and no other.

The page acknowledges a frame when it begins to draw it. Until then none is sent, so a slow browser,
or a slow network, sees fewer frames and never old ones, and holds nobody up.
"""

import asyncio
import json
import logging
import time
from collections import deque
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from refocus.view.listener import Listener
from refocus.view.page.packet import Acknowledged, Pinged, Recalled, Selected, decode, encode_frame
from refocus.view.places import Shown, Wanted

logger = logging.getLogger("refocus.view")

HELD = 12
"""Frames kept for a snapshot: those on the screen, one a channel, and those on their way to it."""


class Tab:
    """Serves one websocket.

    Parameters
    ----------
    feed
        Where frames come from.
    socket
        The connection, not accepted yet.
    hello
        Sent first: what does not change.

    Attributes
    ----------
    held
        The last frames that were sent.
    """

    def __init__(self, feed: Listener, socket: WebSocket, hello: dict[str, Any]) -> None:
        self.held: deque[Shown] = deque(maxlen=HELD)
        self._feed = feed
        self._socket = socket
        self._hello = hello
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._told = False
        self._selected = Selected(Wanted())
        self._recalled: int | None = None
        self._sent: dict[str, int] = {}  # by channel, the newest that was sent
        self._awaited: int | None = None
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """Send and receive until the tab is closed."""
        await self._socket.accept()
        await self._say("hello", self._hello)
        with self._feed.listening(self._wake):
            both = {asyncio.create_task(self._send()), asyncio.create_task(self._receive())}
            try:
                ended, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in both:
                    task.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        states = {self._socket.client_state, self._socket.application_state}
        if states != {WebSocketState.CONNECTED}:  # it was closed, and whatever was raised says so
            return
        for error in filter(None, [task.exception() for task in ended]):
            # the page connects again, and begins anew
            logger.error("a tab could not be served: %s", error, exc_info=error)
        with suppress(WebSocketDisconnect):
            await self._socket.close(1011)

    async def _receive(self) -> None:
        try:
            while True:
                await self._heard(await self._socket.receive_text())
        except KeyError:  # bytes, which no page of ours sends
            pass

    def _wake(self) -> None:
        """Have the sender look; on the feed's thread, and cheap if it is to look anyway."""
        if not self._told:
            self._told = True
            self._loop.call_soon_threadsafe(self._news.set)

    async def _heard(self, text: str) -> None:
        message = decode(text)
        if isinstance(message, Pinged):
            await self._say("pong", {"sent": message.sent, "server_ms": time.monotonic() * 1e3})
            return
        if isinstance(message, Selected):
            self._selected = message
            self._sent.clear()
        elif isinstance(message, Recalled):
            self._recalled = message.serial
            self._sent.clear()
        elif isinstance(message, Acknowledged) and message.serial == self._awaited:
            self._awaited = None
        self._news.set()

    async def _send(self) -> None:
        revision, points, marks = -1, 0, 0
        while True:
            self._news.clear()
            self._told = False
            revision, state = self._feed.state(revision)
            if state is not None:
                await self._say("state", state)
            points, fresh = self._feed.points(points)
            if fresh:
                await self._say("points", {"points": fresh})
            marks, remembered = self._feed.marks(marks)
            if remembered is not None:
                await self._say("marks", remembered)
            if self._awaited is None:
                await self._send_next()
            await self._news.wait()

    def _next(self) -> Shown | None:
        """Give the frame that the page is to get now, if any is new to it."""
        if self._recalled is not None:
            shown = self._feed.held(self._recalled)
        elif self._selected.each:
            for shown in self._feed.of_each_channel(self._selected.wanted):
                if shown.serial != self._sent.get(shown.place.c):
                    return shown
            return None
        else:
            shown = self._feed.newest(self._selected.wanted)
        return None if shown is None or (self.held and shown is self.held[-1]) else shown

    async def _send_next(self) -> None:
        shown = self._next()
        if shown is None:
            if self._recalled is not None and self._feed.held(self._recalled) is None:
                await self._say("gone", {"serial": self._recalled})
                self._recalled = None
            return
        self._awaited = shown.serial
        self._sent[shown.place.c] = shown.serial
        self.held.append(shown)
        async with self._sending:
            await self._socket.send_bytes(encode_frame(shown))

    async def _say(self, kind: str, content: dict[str, Any]) -> None:
        async with self._sending:
            await self._socket.send_text(json.dumps({"type": kind, **content}))
