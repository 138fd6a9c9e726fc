"""Being asked to end, as an exception."""


class Stopped(BaseException):
    """The process was asked to end (SIGTERM), as Ctrl-C raises ``KeyboardInterrupt``."""
