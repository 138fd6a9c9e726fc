"""How a command is asked to end: once, and then it is left to finish."""

import signal

import pytest

from refocus.configs import terminal
from refocus.configs.terminal import Stopped, end_on_signals, leaving_on_ctrl_c

pytestmark = pytest.mark.usefixtures("own_signals")


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


def test_what_need_not_be_waited_for_is_left_by_one_ctrl_c_and_by_nothing_else() -> None:
    end_on_signals()
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)
    with leaving_on_ctrl_c():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    with leaving_on_ctrl_c():
        pass
    signal.raise_signal(signal.SIGINT)
