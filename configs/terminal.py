"""What all our commands do with a terminal and its signals: progress, warnings, being ended."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from refocus.configs.command import INTERRUPTED, TERMINATED, printable
from refocus.configs.errors import RefocusError


class Stopped(BaseException):
    """The process was asked to end, by SIGTERM or as its terminal was closed (SIGHUP)."""


ENDINGS = {"SIGINT": KeyboardInterrupt, "SIGTERM": Stopped}
if hasattr(signal, "SIGHUP"):
    ENDINGS["SIGHUP"] = Stopped
_may_raise: set[str] = set()


def end_on_signals() -> None:
    """Have the signals that end a command raise, the first of them alone: the clean-up goes on.

    A closed terminal is not to end a command under ``nohup``, which ignores that signal.
    """
    for name in ENDINGS:
        number = signal.Signals[name]
        if name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN:
            continue
        _may_raise.add(name)
        signal.signal(number, _raise)


@contextmanager
def leaving_on_ctrl_c() -> Iterator[None]:
    """Let a further Ctrl-C raise, once: for a wait that need not be waited for."""
    first = "SIGINT" in _may_raise
    _may_raise.add("SIGINT")
    try:
        yield
    finally:
        if not first:
            _may_raise.discard("SIGINT")


def _raise(number: int, frame: object) -> None:
    name = signal.Signals(number).name
    if name in _may_raise:
        _may_raise.clear()
        raise ENDINGS[name]


@contextmanager
def ending_with(way: Callable[[], str]) -> Iterator[None]:
    """Have a command that is ended say how it goes on, with the status of what ended it."""
    try:
        yield
    except (KeyboardInterrupt, Stopped) as stop:
        by_hand = isinstance(stop, KeyboardInterrupt)
        told = RefocusError(f"{'interrupted' if by_hand else 'terminated'}; {way()}")
        told.status = INTERRUPTED if by_hand else TERMINATED
        raise told from stop


def how_many(number: int, of_what: str) -> str:
    """Say how many there are: ``"1 plane"``, ``"2 planes"``."""
    return f"{number} {of_what}{'' if number == 1 else 's'}"


class _Counted(TextColumn):
    """How far a task is, once it is known how far it goes."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


@contextmanager
def progress_bar(
    console: Console, counted: str = "{task.completed}/{task.total}", per_second: float = 10
) -> Iterator[Progress]:
    """Show a progress bar on a terminal, and nothing elsewhere.

    Parameters
    ----------
    console
        Where.
    counted
        How far a task is, in rich's words; a task may have a field ``figures``, too.
    per_second
        How often it is drawn.
    """
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        _Counted(counted),
        TextColumn("{task.fields[figures]}", style="cyan"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        refresh_per_second=per_second,
        disable=not console.is_terminal,
    )
    bar.start()
    try:
        yield bar
    finally:
        with suppress(OSError):  # the terminal was closed: what ended the command is told
            bar.stop()


class LogLines(logging.Handler):
    """Prints warnings above a progress bar, a line each.

    Parameters
    ----------
    console
        Where.
    command
        Name that each line begins with.
    """

    def __init__(self, console: Console, command: str) -> None:
        super().__init__(logging.WARNING)
        self._console, self._command = console, command

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        line = printable(" ".join(f"{self._command}: {record.getMessage()}".split()))
        with suppress(OSError):  # the terminal was closed, which is no reason to end a thread
            self._console.print(line, style="yellow", markup=False, emoji=False)


def log_to(console: Console, command: str, *loggers: str) -> None:
    """Send warnings of ours, and of other loggers that are named, to the terminal."""
    logging.raiseExceptions = False  # a log file on a full disk must not drown the message
    lines = LogLines(console, command)
    for name in ("refocus", *loggers):
        logger = logging.getLogger(name)
        logger.addHandler(lines)
        logger.propagate = False
