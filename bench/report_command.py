"""How the commands of the reports read counts, and end: with a line where something is wrong."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from refocus.configs import RefocusError, reason_of
from refocus.configs.command import BAD_INPUT, INTERRUPTED


def count(text: str) -> int:
    """Read a number of things, of which there is at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give 1 or more")
    return int(text)


def run_report(main: Callable[[], object]) -> NoReturn:
    """Run a report's ``main``, and exit with its status: 2 for what a user can mend."""
    status, said = 0, ""
    try:
        main()
    except RefocusError as error:
        status, said = error.status, str(error)
    except OSError as error:
        status, said = BAD_INPUT, f"{error.filename or 'file'}: {reason_of(error)}"
    except KeyboardInterrupt:
        status, said = INTERRUPTED, "interrupted"
    if said:
        print(said, file=sys.stderr)
    sys.exit(status)
