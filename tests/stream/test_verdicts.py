"""Verdicts on the wire, of this version and of a later one."""

import json

import pytest

from refocus.configs import RefocusError
from refocus.stream.messages import StatsHeader, Tiles, Trust

STATS = {"schema": "refocus/1", "run": "r", "next_number": 5, "frames": {}, "queued": 0}
STATS |= {"capacity": 1, "fps": 1, "latency_ms": {}, "engine_ms": {}}


@pytest.mark.parametrize(
    ("sent", "read"), [("blank", "blank"), ("in-focus", "in-focus"), ("spotless", "unrated")]
)
def test_a_verdict_of_a_later_version_breaks_no_reader(sent: str, read: str) -> None:
    assert Trust.model_validate({"verdict": sent, "share": 0}).verdict == read
    stats = STATS | {"verdicts": {sent: 2, "unrated": 3}}

    found = StatsHeader.decode(json.dumps(stats).encode()).verdicts

    assert found == ({"unrated": 5} if read == "unrated" else {read: 2, "unrated": 3})


@pytest.mark.parametrize("count", ["x", None, True, [1], 1.5, -1])
def test_what_counts_nothing_is_said_in_a_line(count: object) -> None:
    stats = STATS | {"verdicts": {"spotless": count}}
    with pytest.raises(RefocusError, match="does not keep to schema refocus/1"):
        StatsHeader.decode(json.dumps(stats).encode())


@pytest.mark.parametrize(
    ("distances", "shares"), [([], []), ([1.0] * 6, [1] * 5), ([1.0] * 7, [1] * 7)]
)
def test_every_tile_has_its_entry(distances: list[float], shares: list[int]) -> None:
    told = {"side_px": 64, "rows": 2, "columns": 3}
    assert Tiles.model_validate(told | {"distance_um": [1.0] * 6, "share_percent": [1] * 6})
    with pytest.raises(ValueError, match="not one entry for each of 2 × 3 tiles"):
        Tiles.model_validate(told | {"distance_um": distances, "share_percent": shares})
