"""Keeping a time-lapse in focus by what its frames say."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import useq

from refocus.acquisition import attach
from refocus.acquisition.command.sources import Source, keep_in_focus
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.sinks.focus_belief import FocusBelief
from refocus.acquisition.sinks.focus_keeper import FocusKeeper
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.engine.protocol import UNKNOWN, Frame, LightPath, Ticket
from refocus.engine.trust.judgement import Judgement


@pytest.mark.parametrize("start_um", [-6.0, 0.0, 3.0, 8.0])
@pytest.mark.parametrize("drift_um_per_s", [-0.1, 0.0, 5 / 60])
def test_focus_is_found_and_followed(start_um: float, drift_um_per_s: float) -> None:
    rng = np.random.default_rng(1)
    belief, offset, errors = FocusBelief(20.0), 0.0, []
    for second in range(60):
        focus = start_um + drift_um_per_s * second
        errors.append(abs(offset - focus))
        belief.wander(1.0)
        belief.observe(offset, abs(abs(offset - focus) + rng.normal(0, 0.5)), 0.7)
        offset = belief.best(offset)

    # now and then a step is taken to the wrong side first
    assert np.quantile(errors[10:], 0.95) < 2.0
    assert max(errors[10:]) < 3.0


@pytest.mark.parametrize("upward", [True, False])
@pytest.mark.parametrize("start_um", [-6.0, 5.0])
def test_the_side_of_focus_is_understood_after_a_move(start_um: float, upward: bool) -> None:
    rng = np.random.default_rng(1)

    def follow(belief: FocusBelief, focus: float, sided: bool) -> list[float]:
        offset, errors = 0.0, []
        for _ in range(20):
            errors.append(abs(offset - focus))
            positive = 0.9 if (offset > focus) == upward else 0.1
            belief.wander(1.0)
            distance = abs(abs(offset - focus) + rng.normal(0, 0.5))
            belief.observe(offset, distance, 0.7, positive if sided else 0.5)
            offset = belief.best(offset)
        return errors

    first = FocusBelief(20.0)
    assert max(follow(first, start_um, True)[4:]) < 2.5
    assert first.upward > 0.8 if upward else first.upward < 0.2

    # at the next position it goes the right way at once
    assert max(follow(FocusBelief(20.0, upward=first.upward), 6.0, True)[1:]) < 2.5
    assert max(follow(FocusBelief(20.0, upward=first.upward), -6.0, True)[1:]) < 2.5


def test_a_stage_never_leaves_its_limits() -> None:
    belief, offset = FocusBelief(5.0), 0.0
    for _ in range(30):
        belief.wander(1.0)
        belief.observe(offset, abs(offset - 12.0), 0.5)
        offset = belief.best(offset)
        assert abs(offset) <= 5.0

    assert offset == 5.0


def test_an_outlier_does_not_send_the_stage_away() -> None:
    belief = FocusBelief(20.0)
    for _ in range(5):
        belief.observe(0.0, 0.3, 0.5)

    belief.observe(0.0, 15.0, 0.5)

    assert belief.best(0.0) == 0.0


class Knowing(FakeEngine):
    """Knows how far from focus the simulated microscope was, but not on which side."""

    def __init__(self, microscope: SimulatedMicroscope) -> None:
        super().__init__()
        self._microscope = microscope
        self.distances: list[float] = []

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        z_um = self._microscope.truth(self.calls).z_um
        assert z_um is not None
        self.distances.append(abs(z_um))
        whole = np.ones((1, 1), np.float32)
        judgement = Judgement("refocused", 1.0, abs(z_um), 0.5, 1.0, 0.5, whole)
        ticket = super().submit(frame)
        return lambda: replace(ticket(), judgement=judgement)


@pytest.fixture
def drifting() -> Iterator[SimulatedMicroscope]:
    # 5 µm/min, a minute of it in three seconds
    with SimulatedMicroscope(frame_shape=(64, 64), drift_um_per_min=100.0) as microscope:
        yield microscope


@pytest.mark.alone
@pytest.mark.parametrize("act", [True, False])
def test_a_drifting_sample_stays_in_focus_only_if_asked(
    drifting: SimulatedMicroscope, act: bool, caplog: pytest.LogCaptureFixture
) -> None:
    plan = useq.MDASequence(time_plan=useq.TIntervalLoops(interval=0.05, loops=60))
    source = Source(drifting.core, plan, 60, False, drifting.truth)
    sinks = []
    if act:
        source, keeper = keep_in_focus(source, 20.0, drift_um_per_min=240.0)
        sinks.append(keeper)
    engine = Knowing(drifting)
    with (
        caplog.at_level(logging.INFO, "refocus.focus"),
        attach(drifting.core, engine=engine, sinks=sinks, queue=60) as live,
    ):
        drifting.core.run_mda(source.sequence).join()
    live.stats.check()

    assert len(engine.distances) == 60
    if act:
        assert np.quantile(engine.distances[10:], 0.95) < 2.0
        moves = [r for r in caplog.records if "the stage goes by" in r.getMessage()]
        assert len(moves) == keeper.moves > 0
    else:
        assert engine.distances[-1] > 4.0


def test_z_stacks_are_left_as_planned(drifting: SimulatedMicroscope) -> None:
    stack = useq.MDASequence(z_plan={"range": 4, "step": 1})

    with pytest.raises(RefocusError, match="z-stacks"):
        FocusKeeper(stack, 0.0, 10.0)
