"""What a sequence planned, against what came."""

from dataclasses import asdict

import pytest
import useq

from refocus.acquisition.pipeline.plan import Plan, Short, count_frames

LOOPS = {"interval": 0, "loops": 3}
ALIKE = useq.MDASequence(
    axis_order="tpcz",
    time_plan=LOOPS,
    stage_positions=[{"x": 0, "name": "A"}, {"x": 1}],
    channels=["DAPI", "FITC"],
    z_plan={"range": 2, "step": 1},
)
RAGGED = useq.MDASequence(
    axis_order="tpc",
    time_plan=LOOPS,
    stage_positions=[{"x": 0}, {"x": 1, "sequence": {"z_plan": {"range": 2, "step": 1}}}],
    channels=["DAPI", {"config": "FITC", "acquire_every": 2}],
)
FOCUSED = useq.MDASequence(
    time_plan=LOOPS,
    autofocus_plan={"autofocus_motor_offset": 1, "axes": ["t"]},
    stage_positions=[(0, 0, 0)],
)
SEQUENCES = {"alike": ALIKE, "ragged": RAGGED, "autofocus": FOCUSED}


def image_events(sequence):
    return [e for e in sequence if e.action is None or isinstance(e.action, useq.AcquireImage)]


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("cameras", [1, 2])
def test_every_event_is_planned_and_a_whole_run_is_not_short(name, cameras):
    plan = Plan(SEQUENCES[name], cameras)
    plan.wait(30)
    events = image_events(SEQUENCES[name])
    assert plan.planned == cameras * len(events)
    assert count_frames(SEQUENCES[name]) == len(events)
    assert plan.report()["missing"] == plan.planned
    for event in events:
        for _ in range(cameras):
            plan.came(event)
    assert plan.report() == {
        "planned": plan.planned,
        "received": plan.planned,
        "added": 0,
        "missing": 0,
        "short": [],
    }


@pytest.mark.parametrize(
    ("name", "left_out", "short"),
    [
        ("alike", {"p": 0, "c": 1, "t": 2}, [Short("A", "FITC", 9, 6)]),
        ("alike", {"p": 1}, [Short("1", "DAPI", 9, 0), Short("1", "FITC", 9, 0)]),
        ("ragged", {"p": 1, "c": 1, "z": 0}, [Short("1", "FITC", 6, 4)]),
    ],
)
def test_what_is_missing_is_told_by_position_and_channel(name, left_out, short):
    plan = Plan(SEQUENCES[name])
    plan.wait(30)
    for event in image_events(SEQUENCES[name]):
        if any(event.index.get(axis) != place for axis, place in left_out.items()):
            plan.came(event)
    report = plan.report()
    assert report["short"] == [asdict(one) for one in short]
    assert report["missing"] == sum(one.planned - one.received for one in short)


def test_nothing_is_expected_where_nobody_knows():
    plan = Plan()
    plan.came(useq.MDAEvent())
    assert (plan.planned, plan.short(), plan.report()) == (None, (), None)
