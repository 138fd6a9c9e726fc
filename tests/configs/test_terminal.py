"""How a command is asked to end: once, and then it is left to finish."""

import io
import logging
import signal

import pytest
from rich.console import Console

from refocus.configs import terminal
from refocus.configs.terminal import (
    LogLines,
    Stopped,
    end_on_signals,
    leaving_on_ctrl_c,
    progress_bar,
)

pytestmark = pytest.mark.usefixtures("own_signals")


def send(name: str) -> None:
    """Do what a signal does, without one, which pytest's stack for signals is too small for."""
    handler = signal.getsignal(number := signal.Signals[name])
    if callable(handler):
        handler(number, None)
    assert handler is not signal.SIG_DFL


@pytest.mark.parametrize("then", terminal.ENDINGS)
@pytest.mark.parametrize(("first", "raised"), terminal.ENDINGS.items())
def test_after_one_signal_none_raises(first: str, raised: type[BaseException], then: str) -> None:
    if first == "SIGHUP":
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    end_on_signals()
    with pytest.raises(raised):
        send(first)
    for _ in range(2):
        send(then)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signal")
def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end_on_signals()
    send("SIGHUP")
    with pytest.raises(Stopped):
        send("SIGTERM")


class Closed(io.StringIO):
    """A terminal that is not there any more."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_what_ended_a_command_is_told_though_its_terminal_was_closed() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)

    def run() -> None:
        with progress_bar(console) as bar:
            bar.add_task("refocusing", total=2, figures="")
            console.file = Closed()
            raise Stopped

    with pytest.raises(Stopped):
        run()


def test_how_far_it_is_stands_there_once_it_is_known_how_far_it_goes() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress_bar(console) as bar:
        task = bar.add_task("refocusing", total=None, figures="")
        bar.refresh()
        assert "None" not in console.file.getvalue()
        bar.update(task, total=4, completed=3, refresh=True)
        assert "3/4" in console.file.getvalue()


def test_a_terminal_that_was_closed_fails_no_thread_that_warns() -> None:
    log = logging.getLogger(f"{__name__}.closed")
    log.addHandler(LogLines(Console(file=Closed()), "refocus-live"))
    log.warning("told to nobody")


def test_a_command_that_begins_can_be_ended_again() -> None:
    for _ in range(2):
        end_on_signals()
        with pytest.raises(Stopped):
            send("SIGTERM")


def test_what_need_not_be_waited_for_is_left_by_one_ctrl_c_and_by_nothing_else() -> None:
    end_on_signals()
    with pytest.raises(Stopped):
        send("SIGTERM")
    with leaving_on_ctrl_c():
        send("SIGTERM")
        with pytest.raises(KeyboardInterrupt):
            send("SIGINT")
    send("SIGINT")
    with leaving_on_ctrl_c():
        pass
    send("SIGINT")
