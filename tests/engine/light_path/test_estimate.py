"""What an estimator says of a frame, and what a run makes of it."""

import numpy as np
import pytest

from refocus.configs.light_path import Blur
from refocus.engine.light_path.belief import Beliefs
from refocus.engine.light_path.estimate import (
    ABERRATIONS,
    INPUTS,
    OUTPUTS,
    PRIOR,
    RADII,
    SAMPLINGS,
    EstimatorWeights,
    Posterior,
    likely,
    log_softmax,
    mean_sampling,
)
from refocus.optics.transfer import paraxial

SHAPE = RADII.size, ABERRATIONS.size


def posterior(*places: tuple[int, int, float]) -> Posterior:
    """Give chances to some places of the grid, and few to the others."""
    chances = np.full(SHAPE, 1e-4)
    for row, column, chance in places:
        chances[row, column] = chance
    return Posterior(log_softmax(np.log(chances)), 0.7, 0.5)


def test_weights_come_back_as_they_were_packed() -> None:
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(INPUTS + 1, 8)), rng.normal(size=(9, OUTPUTS))]
    packed = EstimatorWeights.pack(layers)
    again = EstimatorWeights.model_validate_json(packed.model_dump_json())
    assert again.digest() == packed.digest()
    for given, wanted in zip(again.unpack(), layers, strict=True):
        np.testing.assert_allclose(given, wanted, atol=3e-3)


@pytest.mark.parametrize(
    "shapes", [[(INPUTS + 1, 8), (9, OUTPUTS + 1)], [(3, 8), (9, OUTPUTS)], [(INPUTS + 1, OUTPUTS)]]
)
def test_other_weights_are_refused(shapes: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(INPUTS + 1, 8)), rng.normal(size=(9, OUTPUTS))]
    wrong = EstimatorWeights.pack(layers).model_copy(update={"shapes": shapes})
    with pytest.raises(ValueError, match="estimator"):
        wrong.unpack()


def test_the_second_light_path_is_another() -> None:
    first, second = likely(posterior((10, 2, 0.5), (10, 3, 0.2), (14, 6, 0.2)))
    assert first.radius == pytest.approx(RADII[10] / paraxial(0.5), rel=0.05)
    assert second.radius == pytest.approx(RADII[14] / paraxial(0.5), rel=0.05)
    assert second.spherical == pytest.approx(ABERRATIONS[6], abs=0.1)
    # a place of the grid stands for those around it
    assert (first.chance, second.chance) == pytest.approx((0.757, 0.217), abs=0.01)
    assert Blur(0.7, 0.5, 4.0).chance == 1.0


def test_frames_of_a_run_decide_what_one_leaves_open() -> None:
    open_question = posterior((12, 2, 0.30), (18, 6, 0.32))
    leaning = posterior((12, 2, 0.34), (18, 6, 0.28))
    beliefs = Beliefs()
    first = beliefs.after("DAPI", "p0", open_question)
    assert first[0].radius == pytest.approx(RADII[18] / paraxial(0.5), rel=0.05)
    for place in range(8):
        last = beliefs.after("DAPI", f"p{place}", leaning)
    assert last[0].radius == pytest.approx(RADII[12] / paraxial(0.5), rel=0.05)


def test_what_was_thought_before_a_frame_counts_once() -> None:
    nothing_new = Posterior(log_softmax(PRIOR), 0.7, 0.5)
    beliefs = Beliefs()
    seen = [beliefs.after("DAPI", f"p{place}", nothing_new) for place in range(20)]
    assert seen[-1][0].spherical == pytest.approx(seen[0][0].spherical, abs=0.02)
    told = [beliefs.after("FITC", "p0", posterior((8, 2, 0.9))) for _ in range(3)][-1]
    assert told[0].spherical == pytest.approx(ABERRATIONS[2], abs=0.05)


def test_frames_of_a_run_sharpen_the_sampling() -> None:
    leaning = log_softmax(np.where(np.arange(SAMPLINGS.size) == 2, 0.8, 0.0))
    frame = posterior((8, 4, 0.9))._replace(samplings=leaning, sampling=mean_sampling(leaning))
    beliefs = Beliefs()
    found = [beliefs.after("DAPI", "p0", frame)[0].sampling for _ in range(20)]
    assert abs(found[-1] - SAMPLINGS[2]) < 0.1 * abs(found[0] - SAMPLINGS[2])


def test_a_run_that_knows_looks_at_one_frame_in_four() -> None:
    beliefs = Beliefs()
    assert beliefs.known("DAPI", "p0") == ()
    for _ in range(12):
        last = beliefs.after("DAPI", "p0", posterior((8, 4, 0.9)))
    asked = [beliefs.known("DAPI", "p0") for _ in range(8)]
    assert [bool(a) for a in asked] == [True, True, True, False] * 2
    assert asked[0] == last
    assert beliefs.known("DAPI", "p1") == ()


def test_a_run_follows_a_jump_and_keeps_channels_apart() -> None:
    beliefs = Beliefs()
    for _ in range(10):
        beliefs.after("DAPI", "p0", posterior((8, 4, 0.9)))
    for _ in range(3):
        moved = beliefs.after("DAPI", "p0", posterior((20, 4, 0.9)))
    assert moved[0].radius == pytest.approx(RADII[20] / paraxial(0.5), rel=0.05)
    other = beliefs.after("FITC", "p0", posterior((3, 4, 0.9)))
    assert other[0].radius == pytest.approx(RADII[3] / paraxial(0.5), rel=0.05)
    assert isinstance(other[0], Blur)
