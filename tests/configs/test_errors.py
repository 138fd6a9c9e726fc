"""Whatever fails, it is told in a line."""

import pytest

from refocus.configs import one_line, reason_of


@pytest.mark.parametrize(
    ("error", "reason", "line"),
    [
        (ValueError("first\nsecond  line"), "first", "first second line"),
        (ValueError("\n  first\nsecond"), "first", "first second"),
        (ValueError("long " * 100), ("long " * 100)[:200], ("long " * 100).strip()),
        (ValueError(), "ValueError", "ValueError"),
        (ValueError(" \n"), "ValueError", "ValueError"),
        (OSError(28, "No space left", "f"), "No space left", "[Errno 28] No space left: 'f'"),
        (OSError("no number"), "no number", "no number"),
        (OSError(), "OSError", "OSError"),
    ],
)
def test_an_error_is_told_in_a_line(error: Exception, reason: str, line: str) -> None:
    assert (reason_of(error), one_line(error)) == (reason, line)
