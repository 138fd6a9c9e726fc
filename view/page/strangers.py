"""Connections to the page whose request is yet to be let in, and how many there may be.

A browser says what it wants at once. Whoever opens connections and says half of it, before any
token was asked for, is waited for a few seconds, and makes room for others.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_STRANGERS = 64
"""Connections without a request that was let in; beyond that the oldest makes room."""
STRANGER_S = 10.0
"""So long one may take to say what it wants."""
HEAD_BYTES = 16384
"""The longest beginning of a request."""

Address = tuple[str, int]


class Strangers:
    """Who has connected, and was not let in by the guard yet."""

    def __init__(self) -> None:
        self._waiting: dict[Address, asyncio.TimerHandle] = {}
        self._transports: dict[Address, asyncio.BaseTransport] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, address: Address, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for what somebody wants."""
        if len(self._waiting) >= MOST_STRANGERS:
            self._abort(next(iter(self._waiting)))
        loop = asyncio.get_running_loop()
        self._transports[address] = transport
        self._waiting[address] = loop.call_later(STRANGER_S, self._abort, address)

    def leave(self, address: Address | None) -> None:
        """Wait no more: it was let in, or has gone."""
        if address is not None and (timer := self._waiting.pop(address, None)) is not None:
            timer.cancel()
            del self._transports[address]

    def _abort(self, address: Address) -> None:
        transport = self._transports[address]
        self.leave(address)
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()


def protocol_of(strangers: Strangers) -> type[asyncio.Protocol]:
    """Make the protocol of a server that knows its strangers."""

    class Protocol(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait()  # for the next request of this connection

        def connection_lost(self, exc: Exception | None) -> None:
            strangers.leave(self.client)
            super().connection_lost(exc)

        def _wait(self) -> None:
            strangers.leave(self.client)
            if self.client is not None and not self.transport.is_closing():
                strangers.join(self.client, self.transport)

    return Protocol
