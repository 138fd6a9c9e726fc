import numpy as np
import pytest

from refocus.acquisition.pipeline.stats import Durations, Stats, Timing

STATES = ("published", "deferred", "dropped", "failed", "in_flight")


@pytest.mark.parametrize(
    ("name", "counts", "balanced"),
    [
        ("nothing yet", {}, True),
        ("one in every state", {"received": 5, **dict.fromkeys(STATES, 1)}, True),
        ("skipped ones do not count", {"received": 1, "published": 1, "skipped": 7}, True),
        ("one lost", {"received": 2, "published": 1}, False),
        ("one counted twice", {"received": 1, "published": 1, "dropped": 1}, False),
        ("queued, but not in flight", {"queued": 1}, False),
    ],
)
def test_every_frame_is_in_exactly_one_state(name, counts, balanced):
    stats = Stats(**counts)
    if balanced:
        assert stats.check() is stats, name
    else:
        with pytest.raises(AssertionError, match="unaccounted"):
            stats.check()


@pytest.mark.parametrize("scale", [0.05, 3.0, 40_000.0])
def test_percentiles_are_right_within_one_percent(scale):
    values = np.random.default_rng(1).lognormal(sigma=1.0, size=20_000) * scale
    durations = Durations()
    for value in values:
        durations.add(value)
    timing = durations.timing()
    assert timing.p50 == pytest.approx(np.percentile(values, 50), rel=0.01)
    assert timing.p99 == pytest.approx(np.percentile(values, 99), rel=0.01)
    assert timing.max == values.max()


def test_durations_beyond_the_histogram_are_kept():
    durations = Durations()
    assert durations.timing() == Timing(0.0, 0.0, 0.0)
    for value in (0.0, -1.0, 1e12):
        durations.add(value)
    assert durations.timing().max == 1e12


def test_the_report_has_the_keys_that_others_read():
    report = Stats(received=3, published=2, dropped=1, engine_ms=Timing(1.00004, 2, 3)).report()
    assert {"received", "published", "deferred", "dropped", "failed"} <= report["frames"].keys()
    assert report["latency_ms"].keys() == {"p50", "p99", "max"}
    assert report["engine_ms"] == {"p50": 1.0, "p99": 2}
    assert report["fps"] == 0.0
