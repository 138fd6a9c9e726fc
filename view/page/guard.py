"""Who may see the page: whoever is on this computer, or knows the token.

On loopback the danger is another web page in the same browser: it could rebind a name of its own to
127.0.0.1, or open a websocket across origins. So the host must be called by a loopback name, and
the origin of a request must be the page's own. Beyond loopback the address has a secret first part,
``http://HOST:PORT/TOKEN/``, without which nothing is served.
"""

import hmac
import secrets
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refocus.configs.hosts import is_loopback
from refocus.view.page.strangers import Strangers

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def make_token() -> str:
    """Make a token that nobody guesses."""
    return secrets.token_urlsafe(16)


class Guard:
    """Lets a request through to ``app``, or answers 403 with the reason.

    Parameters
    ----------
    app
        Is called with the token, if any, as its root path.
    token
        What the path must begin with; None for a server on loopback.

    Attributes
    ----------
    strangers
        Whoever has connected and was not let through.
    """

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self._app = app
        self._token = token
        self.strangers = Strangers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if reason := self._refusal(scope):
            await _refuse(scope, receive, send, reason)
            return
        self.strangers.leave(scope["client"])
        if self._token is not None:
            if scope["path"] == f"/{self._token}":  # the page's own addresses are relative to it
                await RedirectResponse(f"/{self._token}/")(scope, receive, send)
                return
            scope = {**scope, "root_path": f"{scope.get('root_path', '')}/{self._token}"}
        await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> str:
        """Say why a request is refused; ``""`` if it is not."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._token is None:
            if not is_loopback(_name(host)):
                return f"not served as {host[:100]}; open it as http://127.0.0.1"
        else:
            first = str(scope["path"]).removeprefix("/").partition("/")[0]
            if not hmac.compare_digest(first.encode(), self._token.encode()):
                return "wrong or missing token; open the address that refocus-view printed"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return "asked for by a page of another origin; open the viewer's own address"
        return ""


def _name(host: str) -> str:
    """Give a ``Host`` header without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


async def _refuse(scope: Scope, receive: Receive, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    response = PlainTextResponse(f"refocus-view: {reason}\n", 403, SECURITY_HEADERS)
    await response(scope, receive, send)


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            _add_headers(message)
        await send(message)

    return send_with_headers


def _add_headers(message: MutableMapping[str, Any]) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
