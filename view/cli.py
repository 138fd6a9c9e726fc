"""The command ``refocus-view``: reading options, printing the address, serving until Ctrl-C."""

import logging
import signal
import socket
import sys
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from refocus.configs import RefocusError

BAD_INPUT, INTERRUPTED, TERMINATED = 2, 130, 143

ENDPOINT = "tcp://127.0.0.1:5556"

app = typer.Typer(
    name="refocus-view",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

EXAMPLES = """
[bold]Examples[/bold]

refocus-view --demo

refocus-view tcp://127.0.0.1:5556

refocus-view tcp://microscope:5556 --keys keys/reader

refocus-view --host 0.0.0.0 --port 8080     (for a tablet: prints an address with a token)
"""


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
        from refocus.view.server import Server, build_app, listen
    except ImportError as error:
        raise RefocusError(
            f"{error.name} is not installed; install the viewer: pip install 'refocus-live[view]'"
        ) from None
    from refocus.view.demo import Demo
    from refocus.view.feed import Feed
    from refocus.view.guard import is_loopback, make_token

    listener = listen(host, port)
    token = None if is_loopback(host) else make_token()
    address = _address(host, listener.getsockname()[1], token)
    with ExitStack() as stack:
        stack.callback(listener.close)
        if demo:
            endpoint = _free_endpoint()
            stack.enter_context(Demo(endpoint, engine or "auto"))
        feed = stack.enter_context(Feed(endpoint or ENDPOINT, keys))
        print(address, flush=True)
        if err.is_terminal:
            what = "the simulated microscope" if demo else feed.endpoint
            err.print(f"[dim]shows {what}; Ctrl-C ends it[/dim]")
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
    """Run the command, and turn what goes wrong into one line and an exit status.

    Bad input is 2, Ctrl-C 130, SIGTERM 143.
    """
    sys.exit(_main())


def _main() -> int:
    from refocus.acquisition.interrupt import Stopped

    logging.getLogger("refocus").addHandler(logging.StreamHandler())
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        result = app(standalone_mode=False)
        if result == INTERRUPTED:  # how Typer hands on a Ctrl-C
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Stopped:
        return TERMINATED
    except RefocusError as error:
        return _fail(str(error))
    except _UsageError as error:
        text = getattr(error, "format_message", error.__str__)()
        return _fail(f"{' '.join(text.split())} See `refocus-view --help`.")


_UsageError: type[Exception] = typer.BadParameter.mro()[1]  # of whichever click Typer carries


def _fail(text: str) -> int:
    err.print(f"refocus-view: {text}", style="red", markup=False)
    return BAD_INPUT


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    from refocus.acquisition.interrupt import Stopped

    raise Stopped
