"""The web server: the page, its websocket, and snapshots."""

import errno
import socket
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from refocus.configs import RefocusError, reason_of
from refocus.view.listener import Listener
from refocus.view.page.guard import Guard
from refocus.view.page.snapshot import file_name, snapshot
from refocus.view.page.strangers import HEAD_BYTES, protocol_of
from refocus.view.page.tab import Tab
from refocus.view.places import Shown

MOST_CHANNELS = 16
"""Frames that one file may hold."""

UNREAD_MS = 60_000
"""So long a tab may take nothing of what was sent to it."""


def build_app(feed: Listener, token: str | None = None) -> Guard:
    """Make the application.

    Parameters
    ----------
    feed
        What it shows, started by the caller.
    token
        First part of every path; None for a server on loopback, which needs none.
    """
    tabs: set[Tab] = set()
    hello: dict[str, Any] = {"version": version("refocus-live"), "endpoint": feed.endpoint}

    async def stream(websocket: WebSocket) -> None:
        tab = Tab(feed, websocket, hello)
        tabs.add(tab)
        try:
            await tab.serve()
        finally:
            tabs.discard(tab)

    async def picture(request: Request) -> Response:
        try:
            serials = [int(one) for one in request.query_params.get("serials", "").split(",")]
        except ValueError:
            return PlainTextResponse("serials: not numbers\n", 400)
        found = [_held(serial, tabs, feed) for serial in serials[:MOST_CHANNELS]]
        frames = [one for one in found if one is not None]
        if len(frames) < len(serials):
            return PlainTextResponse("a frame is not held any more; take it again\n", 404)
        try:
            data = await run_in_threadpool(snapshot, frames)
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 409)
        disposition = f'attachment; filename="{file_name(frames)}"'
        headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
        return Response(data, media_type="image/tiff", headers=headers)

    static = StaticFiles(directory=Path(str(files("refocus.view") / "static")), html=True)
    routes = [
        WebSocketRoute("/stream", stream),
        Route("/snapshot.ome.tif", picture),
        Mount("/", static),
    ]
    return Guard(Starlette(routes=routes), token)


def _held(serial: int, tabs: set[Tab], feed: Listener) -> Shown | None:
    """Find a frame: among what was sent to a tab, or what is kept of the run."""
    sent = (shown for tab in tabs for shown in tab.held if shown.serial == serial)
    return next(sent, None) or feed.held(serial)


def listen(host: str, port: int) -> socket.socket:
    """Open the socket that the server listens on.

    Raises
    ------
    RefocusError
        The port is taken, or the host is not this computer's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":  # there it would share the port with another program
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # lets go of a tab that takes nothing any more
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
        try:
            listener.bind(address)
            listener.listen(128)  # whoever comes before the server is ready waits a moment
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise RefocusError(_why_not(host, port, error)) from None
    listener.set_inheritable(False)
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port}: in use by another program; choose another with --port, or 0 for any"
    if error.errno == errno.EACCES:
        return f"port {port}: not permitted; choose one above 1023 with --port"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host}: not an address of this computer; leave it out, or give 0.0.0.0"
    return f"--host {host} --port {port}: cannot listen there: {reason_of(error)}"


class Server(uvicorn.Server):
    """The server of one application.

    Parameters
    ----------
    app
        Made by :func:`build_app`.
    """

    def __init__(self, app: Guard) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol_of(app.strangers),
                h11_max_incomplete_event_size=HEAD_BYTES,
                ws="websockets-sansio",
                ws_max_size=1 << 16,  # what a page sends is short
                ws_per_message_deflate=False,  # noise of a camera does not compress
                ws_ping_interval=None,  # a ping waits behind a frame, for long on a slow network
                lifespan="off",
                log_config=None,  # a line for what a stranger sends wrong, and no traceback
                log_level="warning",  # the log of requests would hold the token
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
