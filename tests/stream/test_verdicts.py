"""Verdicts on the wire, of this version and of a later one."""

import json

import pytest

from refocus.stream.messages import StatsHeader, Trust


@pytest.mark.parametrize(
    ("sent", "read"), [("blank", "blank"), ("in-focus", "in-focus"), ("spotless", "unrated")]
)
def test_a_verdict_of_a_later_version_breaks_no_reader(sent: str, read: str) -> None:
    assert Trust.model_validate({"verdict": sent, "share": 0}).verdict == read
    stats = {"schema": "refocus/1", "run": "r", "next_number": 5, "frames": {}, "queued": 0}
    stats |= {"capacity": 1, "fps": 1, "latency_ms": {}, "engine_ms": {}}
    stats["verdicts"] = {sent: 2, "unrated": 3}

    found = StatsHeader.decode(json.dumps(stats).encode()).verdicts

    assert found == ({"unrated": 5} if read == "unrated" else {read: 2, "unrated": 3})
