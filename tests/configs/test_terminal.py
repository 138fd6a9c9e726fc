"""How a command is asked to end: once, and then it is left to finish."""

import signal
from collections.abc import Iterator

import pytest

from refocus.configs import terminal
from refocus.configs.terminal import Stopped, end_on_signals


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Undo what a command does to the signals of the process."""
    before = {name: signal.getsignal(signal.Signals[name]) for name in terminal.ENDINGS}
    yield
    terminal._may_raise.clear()
    for name, handler in before.items():
        signal.signal(signal.Signals[name], handler)


@pytest.mark.parametrize("then", terminal.ENDINGS)
@pytest.mark.parametrize(("first", "raised"), terminal.ENDINGS.items())
def test_after_one_signal_none_raises(first: str, raised: type[BaseException], then: str) -> None:
    end_on_signals()
    with pytest.raises(raised):
        signal.raise_signal(signal.Signals[first])
    for _ in range(2):
        signal.raise_signal(signal.Signals[then])


def test_a_command_that_begins_can_be_ended_again() -> None:
    for _ in range(2):
        end_on_signals()
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
