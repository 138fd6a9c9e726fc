"""What is decided about a frame, by what is said of its focus."""

from typing import Any

import numpy as np
import pytest

from refocus.acquisition.sinks.focus_belief import FocusBelief
from refocus.acquisition.sinks.focus_steps import UNSURE_UM, Budget, FieldSteps
from refocus.engine.trust.judgement import BLANK, DISTRUSTED, UNRATED, Judgement


def judged(
    verdict: Any, distance_um: float, sigma_um: float = 1.0, share: float = 1.0
) -> Judgement:
    shares = np.full((1, 1), share, np.float32)
    return Judgement(verdict, 1.0, distance_um, sigma_um, 1.0, 0.5, shares, positive_side=0.5)


def steps(**budget: Any) -> FieldSteps:
    return FieldSteps(Budget(**{"limit_um": 20.0, **budget}), FocusBelief(20.0))


@pytest.mark.parametrize(
    ("said", "left_s", "action", "why"),
    [
        (judged("in-focus", 0.5), 1.0, "accept", "0.5 ± 1.0 µm from focus"),
        (judged("in-focus", 0.5), 0.0, "accept", "0.5 ± 1.0 µm"),
        (judged("refocused", 3.0), 1.0, "refocus", "3.0 ± 1.0 µm"),
        (judged("refocused", 3.0, 1.9), 1.0, "accept", "3.0 ± 1.9 µm"),
        (judged("refocused", 3.5, share=0.2), 1.0, "again", "taken again"),
        (judged("refocused", 12.0), 1.0, "again", "12.0 ± 1.0 µm from focus: taken again"),
        (judged("beyond", 15.0), 1.0, "again", "15.0 ± 1.0 µm"),
        (judged("refocused", 12.0), 0.0, "leave", "the 0.5 s are over"),
        (BLANK, 1.0, "leave", "nothing but noise"),
        (DISTRUSTED, 1.0, "leave", "is unfamiliar"),
        (UNRATED, 1.0, "leave", "is unrated"),
    ],
)
def test_the_first_frame_of_a_field(said: Judgement, left_s: float, action: str, why: str) -> None:
    found = steps().decide(7, 0, 0.0, said, left_s)

    assert (found.action, found.attempt, found.take) == (action, 0, 7)
    assert why in found.why
    if action != "again":
        assert found.offset_um == 0.0


@pytest.mark.parametrize("verdict", ["beyond", "unfamiliar", "refocused"])
def test_what_is_not_known_moves_the_stage_by_a_small_step_only(verdict: str) -> None:
    found = steps().decide(0, 0, 0.0, judged(verdict, 15.0, 9.0), 1.0)

    assert found.action == "again"
    assert 0 < abs(found.offset_um) <= UNSURE_UM


def test_where_it_got_worse_the_other_side_is_tried() -> None:
    field = steps()
    offsets = [0.0]
    for frame in range(3):
        said = judged("refocused", abs(offsets[-1] + 12.0))
        found = field.decide(frame, frame, offsets[-1], said, 1.0)
        offsets.append(found.offset_um)

    assert found.action == "accept"
    assert found.take == 2
    assert offsets[-1] == pytest.approx(-12.0, abs=1.5)


def test_it_goes_back_to_the_best_when_the_light_is_spent() -> None:
    field = steps(frames=1)
    first = field.decide(3, 0, 0.0, judged("refocused", 9.0), 1.0)
    second = field.decide(4, 1, first.offset_um, judged("refocused", 18.0), 1.0)

    assert (second.action, second.take, second.offset_um) == ("leave", 3, 0.0)
    assert "the light for 1 further frames is spent" in second.why


def test_what_does_not_change_with_the_stage_is_left() -> None:
    field = steps(frames=5)
    offset, actions = 0.0, []
    for frame in range(3):
        found = field.decide(frame, frame, offset, judged("refocused", 9.0), 1.0)
        offset = found.offset_um
        actions.append(found.action)

    assert actions == ["again", "leave", "leave"]
    assert offset == 0.0
    assert "does not move" in found.why


def test_without_a_verdict_on_the_last_frame_the_stage_goes_back() -> None:
    field = steps()
    assert field.decide(0, 0, 2.0, judged("refocused", 12.0), 1.0).offset_um != 2.0

    field.give_up()

    assert field.offset_um == 2.0
