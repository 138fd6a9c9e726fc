"""The command ``refocus-view``: reading options, printing the address, serving until Ctrl-C."""

import signal
import socket
import sys
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from refocus.configs import RefocusError
from refocus.configs.command import (
    TERMINATED,
    command_app,
    examples,
    make_console,
    run_command,
)
from refocus.configs.hosts import is_loopback
from refocus.configs.terminal import Stopped, log_to

ENDPOINT = "tcp://127.0.0.1:5556"

app = command_app("refocus-view")
out, err = make_console(), make_console(stderr=True)

EXAMPLES = examples(
    "refocus-view --demo",
    "refocus-view tcp://127.0.0.1:5556",
    "refocus-view tcp://microscope:5556 --keys keys/reader",
    "refocus-view --host 0.0.0.0 --port 8080",
)


@app.command(epilog=EXAMPLES)
def view(  # noqa: PLR0917
    endpoint: Annotated[
        str | None, typer.Argument(help=f"Where frames are published ({ENDPOINT}).")
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="P", min=0, max=65535, help="Port of the page; 0 takes any.")
    ] = 8765,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Where to serve the page; beyond this computer, its address has a token.",
        ),
    ] = "127.0.0.1",
    keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The reader's folder of keys.")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Show the simulated microscope, and open the page.")
    ] = False,
    engine: Annotated[
        str | None, typer.Option(help="What refocuses the demo: as of [b]refocus-live run[/b].")
    ] = None,
    browser: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Open the page in the browser of this computer."),
    ] = None,
) -> None:
    """Show what a run publishes, captured and refocused, as a page in the browser."""
    if demo and (endpoint or keys):
        raise RefocusError("--demo has an endpoint of its own; leave ENDPOINT and --keys out")
    if engine and not demo:
        raise RefocusError("--engine is for --demo; what refocuses a run is chosen there")
    try:
        from refocus.view.page.server import Server, build_app, listen
    except ImportError as error:
        raise RefocusError(
            f"{error.name} is not installed; install the viewer: pip install 'refocus-live[view]'"
        ) from None
    from refocus.view.demo import Demo
    from refocus.view.listener import Listener
    from refocus.view.page.guard import make_token

    listener = listen(host, port)
    token = None if is_loopback(host) else make_token()
    address = _address(host, listener.getsockname()[1], token)
    with ExitStack() as stack:
        stack.callback(listener.close)
        if demo:
            endpoint = _free_endpoint()
            stack.enter_context(Demo(endpoint, engine or "auto"))
        feed = stack.enter_context(Listener(endpoint or ENDPOINT, keys))
        print(address, flush=True)
        if err.is_terminal:
            what = "the simulated microscope" if demo else feed.endpoint
            err.print(f"shows {what}; Ctrl-C ends it", style="dim")
        if browser or (browser is None and demo and out.is_terminal):
            webbrowser.open(address)
        Server(build_app(feed, token)).run([listener])


def _address(host: str, port: int, token: str | None) -> str:
    name = _own_address() if host in ("0.0.0.0", "::", "") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"{token}/" if token else "")


def _own_address() -> str:
    """Give the address by which other computers reach this one; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address kept for documentation
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _free_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def main() -> None:
    """Run the command, and turn what goes wrong into one line and an exit status."""
    sys.exit(_main())


def _main() -> int:
    log_to(err, "refocus-view", "uvicorn")
    signal.signal(signal.SIGTERM, _on_sigterm)
    # a script that starts it in the background has SIGINT ignored, and still ends it that way
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run_command(app, "", endings={Stopped: ("", TERMINATED)})  # how a server is ended


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    raise Stopped
