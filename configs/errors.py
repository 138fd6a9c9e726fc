"""The one exception that reaches a user as a sentence, and what others say, in a line."""

from pydantic import ValidationError


class RefocusError(Exception):
    """Something a user can mend.

    The message is one line that says what is wrong, where, and what to do. The commands print it
    without a traceback and exit with its status, 2.
    """

    status = 2


class Incomplete(RefocusError):
    """A run came to its end, and something that it should have left is not there."""

    status = 1


def reason_of(error: BaseException) -> str:
    """Say in one line why something failed: in the system's words, where it has any.

    Of what a library says at length the first line, of what a model refuses the first fault; the
    kind of the error where it says nothing.
    """
    if isinstance(error, ValidationError):
        return ": ".join(part for part in first_fault(error) if part)
    said = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return said.splitlines()[0][:200]


def one_line(error: BaseException) -> str:
    """Give all that an error says, in one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def in_a_line(text: str) -> str:
    """Give what a stranger wrote as text of one line, and nothing that a terminal would obey."""
    return "".join(one for one in " ".join(text.split()) if one.isprintable())


def sentence_of(error: BaseException) -> str:
    """Say an error in one line: a sentence for the user as it is, anything else with its kind."""
    if isinstance(error, RefocusError):
        return str(error)
    return f"{type(error).__name__}: {error}".replace("\n", " ")


def first_fault(error: ValidationError, *within: str | int) -> tuple[str, str]:
    """Say where the first thing is that a model refuses, and in a line what is wrong with it."""
    first = error.errors()[0]
    return ".".join(map(str, (*within, *first["loc"]))), first["msg"].splitlines()[0][:200]
