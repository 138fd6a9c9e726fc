import pytest

from refocus.stream.messages import EndHeader, RunHeader, StatsHeader
from refocus.view.status import POINTS, Status

ENGINE = {"name": "tensorrt", "device": "GPU", "sha256": "ab", "model": "m", "card": None}


def run(run="a", sequence=None, **engine):
    return RunHeader(
        run=run,
        next_number=0,
        sequence=sequence or {},
        camera={},
        engine=ENGINE | engine,
        policy="newest",
    )


def stats(published=0, kind=StatsHeader, run="a", **counts):
    return kind(
        run=run,
        next_number=published,
        frames={"published": published, **counts},
        queued=1,
        capacity=8,
        fps=7.0,
        latency_ms={"p50": 1.0, "p99": 2.0, "max": 3.0},
        engine_ms={"p50": 1.0, "p99": 2.0},
    )


# what happens, and the phase at the time given after it
STORIES = {
    "connecting": ([], 0.5, "connecting"),
    "nobody came": ([], 1.5, "nobody"),
    "connected": ([("link", "connected", 1.0)], 9.0, "idle"),
    "wrong keys": ([("link", "refused", 1.0)], 9.0, "refused"),
    "another schema": ([("link", "connected", 1.0), ("fault", "of 9", 2.0)], 2.1, "foreign"),
    "another schema, that has gone": (
        [("link", "connected", 1.0), ("fault", "of 9", 2.0), ("link", "connecting", 2.5)],
        3.6,
        "nobody",
    ),
    "ours again": (
        [("link", "connected", 1.0), ("fault", "?", 2.0), ("run", run(), 3.0)],
        3.1,
        "running",
    ),
    "running": ([("link", "connected", 1.0), ("run", run(), 2.0)], 4.9, "running"),
    "silence": ([("link", "connected", 1.0), ("run", run(), 2.0)], 5.1, "lost"),
    "heard again": (
        [("link", "connected", 1.0), ("run", run(), 2.0), ("stats", stats(), 9.0)],
        9.5,
        "running",
    ),
    "killed": (
        [("link", "connected", 1.0), ("run", run(), 2.0), ("link", "connecting", 2.5)],
        2.6,
        "lost",
    ),
    "over": (
        [("link", "connected", 1.0), ("run", run(), 2.0), ("stats", stats(kind=EndHeader), 3.0)],
        99.0,
        "ended",
    ),
    "over and gone": (
        [
            ("link", "connected", 1.0),
            ("run", run(), 2.0),
            ("stats", stats(kind=EndHeader), 3.0),
            ("link", "connecting", 4.0),
        ],
        6.0,
        "ended",
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_phases(story):
    events, then, phase = STORIES[story]
    status = Status(0.0)
    for what, content, now in events:
        getattr(status, what)(content, now)
    assert status.phase(then) == phase
    assert status.describe(then)["phase"] == phase


def test_a_card_of_another_kind_is_no_card():
    status = Status(0.0)
    status.run(run(card="x"), 1.0)

    assert status.describe(1.1)["run"]["engine"]["version"] == ""


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ([run()], ""),
        ([run(), run()], ""),
        ([run(), run(name="openvino", device="CPU")], "openvino on CPU instead of tensorrt"),
        ([run(), run("b", name="openvino", device="CPU")], "openvino on CPU instead of tensorrt"),
        ([run(), run("b", name="openvino", device="CPU"), run("c")], ""),
        ([run(), run("b", sha256="cd", name="openvino")], ""),  # another model, its own engine
        ([run(name="torch", fallback_from="tensorrt")], "torch on GPU instead of tensorrt"),
        ([run(name="torch", fallback_from="tensorrt"), run("b")], ""),
    ],
)
def test_a_fallback_is_told_while_it_lasts(runs, told):
    status = Status(0.0)
    for one in runs:
        status.run(one, 1.0)
    assert status.describe(1.0)["fallback"] == told


def test_points_have_live_rates_and_are_forgotten_in_the_end():
    status = Status(0.0)
    status.run(run(), 0.0)
    status.stats(stats(10), 1.0)
    status.stats(stats(40, dropped=3), 2.0)
    assert [point["fps"] for point in status.points] == [7.0, 30.0]
    assert status.points[-1]["dropped"] == 3
    assert status.points[-1]["latency_ms"] is None
    for second in range(POINTS + 50):
        status.stats(stats(40 + second), 3.0 + second)
    assert len(status.points) == POINTS
    assert status.points_made == POINTS + 52


@pytest.mark.parametrize(
    ("positions", "names"),
    [
        ([{"name": "A1"}, {"x": 1.0}, [1, 2]], ["A1", "", ""]),
        ({"rows": 2, "columns": 3}, []),  # a well plate plan
        (None, []),
    ],
)
def test_names_of_positions(positions, names):
    status = Status(0.0)
    status.run(run(sequence={"stage_positions": positions}), 1.0)
    assert status.describe(1.0)["run"]["positions"] == names
