"""Whatever fails, it is told in a line."""

import pytest
from pydantic import BaseModel, ValidationError

from refocus.configs import one_line, reason_of


class Sized(BaseModel):
    """Has one key."""

    sizes: list[int]


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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"sizes": [1, "b"]}', "sizes.1: Input should be a valid integer"),
        ("{}", "sizes: Field required"),
        ("no JSON", "Invalid JSON"),
    ],
)
def test_of_what_a_model_refuses_the_first_fault_is_told(text: str, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Sized.model_validate_json(text)
    assert reason_of(caught.value).startswith(reason)
