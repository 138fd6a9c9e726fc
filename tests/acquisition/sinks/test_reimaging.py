"""A sequence that what the stream knows adds frames to."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import useq

from refocus.acquisition import attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.pipeline.plan import ADDED
from refocus.acquisition.sinks.headers import frame_header, run_header
from refocus.acquisition.sinks.reimaging import Reimaging
from refocus.configs import Optics, RefocusError
from refocus.engine.fake import FakeEngine
from refocus.engine.protocol import UNKNOWN, Frame, LightPath, Ticket
from refocus.engine.trust.judgement import Judgement

Judge = Callable[[float], Judgement]
FIELD_UM = 64 * Optics().pixel_size_um


def known(z_um: float) -> Judgement:
    """Judge a frame by where it truly is."""
    verdict: Any = "in-focus" if abs(z_um) < 1 else "refocused"
    whole = np.ones((1, 1), np.float32)
    side = 0.9 if z_um > 0 else 0.1
    return Judgement(verdict, 1.0, abs(z_um), 0.6, 1.0, 0.5, whole, positive_side=side)


class Telling(FakeEngine):
    """Judges the frames of a simulated microscope by the truth."""

    def __init__(self, microscope: SimulatedMicroscope, judge: Judge = known) -> None:
        super().__init__()
        self._microscope, self._judge = microscope, judge

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        z_um = self._microscope.truth(self.calls).z_um
        assert z_um is not None
        ticket, judgement = super().submit(frame), self._judge(z_um)
        return lambda: replace(ticket(), judgement=judgement)


@pytest.fixture
def tilted() -> Iterator[SimulatedMicroscope]:
    # 3.5 µm more from field to field
    with SimulatedMicroscope(frame_shape=(64, 64), tilt_um_per_mm=3500 / FIELD_UM) as microscope:
        yield microscope


def row(fields: int, **plans: Any) -> useq.MDASequence:
    places = [
        {"x": number * FIELD_UM, "y": 0.0, "z": 0.0, "name": f"well {number}"}
        for number in range(fields)
    ]
    return useq.MDASequence(stage_positions=places, **plans)


def acquire(
    microscope: SimulatedMicroscope, keep: Any, steering: Reimaging, judge: Judge = known
) -> Any:
    engine = Telling(microscope, judge)
    with attach(microscope.core, engine=engine, sinks=[steering, keep], queue=50) as live:
        microscope.core.mda.run(steering)
    live.stats.check()
    return live


def test_fields_out_of_focus_are_taken_again_and_the_accounts_stay_true(
    tilted: SimulatedMicroscope, keep: Any
) -> None:
    steering = Reimaging(row(8), tilted.core, seconds=60, limit_um=50)

    live = acquire(tilted, keep, steering)

    results, added = keep.results, steering.counts["again"]
    assert added > 0
    assert len(results) == 8 + added
    assert live.plan == {
        "planned": 8 + added,
        "received": 8 + added,
        "added": added,
        "missing": 0,
        "short": [],
    }
    last = {result.captured.index["p"]: result for result in results}  # of each field
    for result in last.values():
        assert result.decision["action"] in {"accept", "refocus"}
        assert abs(tilted.truth(result.decision["take"]).z_um or 0.0) <= 4.5
    # once it is known which way is which, no field needs more than one further frame
    later = [r.decision["attempt"] for r in results if r.captured.index["p"] > 3]
    assert max(later) <= 1


def test_the_decision_and_the_plan_travel_with_the_frames(
    tilted: SimulatedMicroscope, keep: Any
) -> None:
    sequence = row(3)

    acquire(tilted, keep, Reimaging(sequence, tilted.core, seconds=60, limit_um=50))

    headers = [frame_header("r", result, 1.0) for result in keep.results]
    assert [h.decision.action for h in headers if h.decision][:2] == ["accept", "refocus"]
    names = [p["name"] for p in run_header(keep.runs[0], 0).sequence["stage_positions"]]
    assert names == ["well 0", "well 1", "well 2"]


def test_an_event_that_is_added_says_why(tilted: SimulatedMicroscope, keep: Any) -> None:
    events: list[useq.MDAEvent] = []
    tilted.core.mda.events.eventStarted.connect(events.append)

    acquire(tilted, keep, Reimaging(row(3), tilted.core, seconds=60, limit_um=50))

    said = [event.metadata[ADDED] for event in events if ADDED in event.metadata]
    assert said
    assert said[0]["attempt"] == 1
    assert "7.0 ± 0.6 µm from focus: taken again" in said[0]["why"]


def test_frames_that_are_not_trusted_never_move_the_stage_far(
    tilted: SimulatedMicroscope, keep: Any
) -> None:
    def guess(z_um: float) -> Judgement:
        return replace(known(z_um), verdict="unfamiliar", sigma_um=20.0, distance_um=18.0)

    acquire(tilted, keep, Reimaging(row(6), tilted.core, seconds=60, limit_um=50), guess)

    assert max(abs(r.captured.position_um["z"]) for r in keep.results) <= 8.0
    first = [r for r in keep.results if not r.decision["attempt"]]
    assert [r.captured.position_um["z"] for r in first] == [0.0] * 6


def test_nobody_who_judges_costs_the_time_of_each_field_and_no_more(
    tilted: SimulatedMicroscope, caplog: pytest.LogCaptureFixture
) -> None:
    steering = Reimaging(row(3), tilted.core, seconds=0.01)

    tilted.core.mda.run(steering)  # not attached

    assert steering.counts == {"late": 3}
    told = [r.getMessage() for r in caplog.records if r.name == "refocus.focus"]
    assert told == ["no verdict within 0.01 s: the frame is left"]


def test_an_autofocus_that_ended_blurrier_is_taken_back(
    keep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    autofocus = {"autofocus_motor_offset": 0.0, "axes": ("t",)}
    plan = useq.MDASequence(
        axis_order="tp",
        stage_positions=[(0.0, 0.0, 2.0)],
        time_plan={"interval": 0, "loops": 3},
        autofocus_plan=autofocus,
    )
    with SimulatedMicroscope(frame_shape=(64, 64)) as microscope:
        core, focused = microscope.core, iter([0.0, 9.0, 0.0])
        # the simulated microscope has no autofocus: one that runs away the second time
        monkeypatch.setattr(core, "getAutoFocusDevice", lambda: "PFS")
        monkeypatch.setattr(core, "isContinuousFocusEnabled", lambda: False)
        monkeypatch.setattr(
            core.mda.engine, "_execute_autofocus", lambda action: next(focused), raising=True
        )
        steering = Reimaging(plan, core, seconds=60, limit_um=20)
        acquire(microscope, keep, steering)

    taken = [(r.captured.index["t"], r.captured.position_um["z"]) for r in keep.results]
    assert taken[:3] == [(0, 2.0), (1, 11.0), (1, 2.0)]
    assert steering.counts["vetoed"] >= 1
    assert (
        "the autofocus ended 11.0 ± 0.6 µm from focus, where it was 2.0"
        in (keep.results[1].decision["why"])
    )


@pytest.mark.parametrize(
    ("plan", "device", "words"),
    [
        (row(2, z_plan={"range": 4, "step": 2}), "Z", "z-stacks"),
        (row(2), "", "no focus stage"),
    ],
)
def test_what_cannot_be_steered_is_refused(
    plan: useq.MDASequence,
    device: str,
    words: str,
    tilted: SimulatedMicroscope,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tilted.core, "getFocusDevice", lambda: device)
    with pytest.raises(RefocusError, match=words):
        Reimaging(plan, tilted.core)


def test_the_raw_frames_are_all_kept(tilted: SimulatedMicroscope, keep: Any, tmp_path: Any) -> None:
    raw = tmp_path / "raw.ome.zarr"
    steering = Reimaging(row(4), tilted.core, seconds=60, limit_um=50)
    engine = Telling(tilted)
    with attach(tilted.core, engine=engine, sinks=[steering, keep], raw=raw) as live:
        tilted.core.mda.run(steering, output=raw)

    saved = live.stats.saved["raw"]
    assert steering.counts["again"] > 0
    assert saved["on_disk"] == saved["planned"] == 4 + steering.counts["again"]
