"""The line and the status with which an incomplete run ends."""

import pytest

from refocus.acquisition.command.accounts import settle, why_nothing
from refocus.acquisition.pipeline.stats import Stats

SAVED = {
    "raw": {
        "received": 4,
        "on_disk": 1,
        "missing": 3,
        "short": [{"position": "A", "channel": "DAPI", "received": 4, "on_disk": 1}],
        "damaged": ["raw.ome.zarr/A/0: No such file"],
    },
    "refocused": {"published": 4, "on_disk": 4, "missing": 0, "short": [], "damaged": []},
}
PLACE = {"position": "A", "channel": "DAPI", "planned": 4, "received": 3}


def plan(*short):
    missing = sum(one["planned"] - one["received"] for one in short)
    return {"planned": 20, "received": 20 - missing, "missing": missing, "short": list(short)}


@pytest.mark.parametrize(
    ("stats", "planned", "problems", "said"),
    [
        (Stats(received=3, published=3), plan(), {}, ()),
        (Stats(received=3, published=3), None, {}, ()),
        (Stats(received=3, published=2, dropped=1), plan(), {}, ()),
        (Stats(received=3, skipped=2, published=3), plan(), {"one": 1}, ()),
        (
            Stats(received=19, published=19),
            plan(PLACE),
            {},
            ("1 of 20 planned frames never came", "position A, channel DAPI"),
        ),
        (
            Stats(received=15, published=15),
            plan(*[PLACE] * 5),
            {},
            ("5 of 20 planned frames", "and at 2 more places"),
        ),
        (
            Stats(received=3, failed=3),
            plan(),
            {"rare": 1, "unsupported": 3},
            ("3 of 3 frames failed: unsupported",),
        ),
        (
            Stats(received=4, published=4, saved=SAVED),
            plan(),
            {},
            (
                "3 of 4 raw frames that were received cannot be read from the disk",
                "(3 of 4 of position A, channel DAPI): raw.ome.zarr/A/0: No such file; see what",
            ),
        ),
        (Stats(received=4, published=4, saved={"refocused": SAVED["refocused"]}), None, {}, ()),
        (Stats(received=3, dropped=3), plan(), {}, ("none of 3 frames was published",)),
    ],
)
def test_a_run_that_lacks_something_says_so_in_one_line(stats, planned, problems, said):
    error = settle(stats, planned, problems)
    assert (error is not None) == bool(said)
    assert all(text in str(error) for text in said)
    assert error is None or (error.status == 1 and "\n" not in str(error))


@pytest.mark.parametrize(
    ("stats", "passed", "why"),
    [
        (Stats(received=1, published=1), ["a stack"], ""),
        (Stats(skipped=3), ["a stack", "no model"], "a stack; no model"),
        (Stats(received=2, dropped=2), [], "the line below says why"),
        (Stats(), [], "no frame came"),
    ],
)
def test_a_run_in_which_nothing_was_refocused_says_why(stats, passed, why):
    assert why_nothing(stats, passed) == why
