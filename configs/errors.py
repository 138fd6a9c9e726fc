"""The one exception that reaches a user as a sentence."""


class RefocusError(Exception):
    """Something a user can mend.

    The message is one line that says what is wrong, where, and what to do. The commands print it
    without a traceback and exit with its status, 2.
    """

    status = 2


class Incomplete(RefocusError):
    """A run came to its end, and something that it should have left is not there."""

    status = 1
