"""What becomes of frames where focus jumps inside a run."""

from collections.abc import Iterator

import numpy as np
import pytest

from refocus.configs.light_path import LightPath
from refocus.engine.light_path.belief import EVERY_FRAME, Beliefs, sharpness
from refocus.engine.light_path.estimate import (
    ABERRATIONS,
    PRIOR,
    RADII,
    Posterior,
    log_softmax,
)
from refocus.engine.model_file import shipped_models
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.refocuser import Refocuser
from refocus.optics.transfer import light_path_of, paraxial
from refocus.training.judging.objectives import OBJECTIVES, examples, quality

SILENT = Posterior(log_softmax(PRIOR), 0.7, 0.5)


def at(row: int, part: float = 0.99) -> Posterior:
    """Say that a frame is blurred by a radius of the grid; the rest, that it may be any."""
    chances = np.full(PRIOR.shape, (1 - part) / PRIOR.size)
    chances[row, ABERRATIONS.size // 2] += part
    return Posterior(log_softmax(np.log(chances)), 0.7, 0.5)


@pytest.fixture
def beliefs() -> Beliefs:
    """Give what is believed after many frames alike, whose sharpness was 1."""
    beliefs = Beliefs()
    for _ in range(EVERY_FRAME + 2):
        beliefs.after("DAPI", "p0", at(18), sharp=1.0)
    return beliefs


@pytest.mark.parametrize(
    ("sharp", "looked_at"), [(1.0, False), (1.15, False), (1.3, True), (0.7, True)]
)
def test_a_frame_that_is_not_as_sharp_is_looked_at(
    beliefs: Beliefs, sharp: float, looked_at: bool
) -> None:
    assert (beliefs.known("DAPI", "p0", sharp=sharp) == ()) is looked_at


def test_such_a_frame_is_believed_where_it_says_that_focus_jumped(beliefs: Beliefs) -> None:
    assert beliefs.known("DAPI", "p0", sharp=3.0) == ()
    first, _ = beliefs.after("DAPI", "p0", at(2), sharp=3.0)
    assert first.radius == pytest.approx(RADII[2] / paraxial(0.5), rel=0.1)


@pytest.mark.parametrize(("part", "most"), [(0.99, 1), (0.9, 2), (0.5, 3), (0.3, 4)])
def test_frames_are_looked_at_until_it_is_decided(beliefs: Beliefs, part: float, most: int) -> None:
    looked = 0
    while beliefs.known("DAPI", "p0", sharp=3.0) == ():
        first, _ = beliefs.after("DAPI", "p0", at(2, part), sharp=3.0)
        looked += 1
    assert looked <= most
    assert first.radius == pytest.approx(RADII[2] / paraxial(0.5), rel=0.1)


@pytest.mark.parametrize("said", [SILENT, at(19)])
def test_and_changes_nothing_where_it_does_not(beliefs: Beliefs, said: Posterior) -> None:
    before = beliefs.seen()["DAPI"]
    assert beliefs.known("DAPI", "p0", sharp=3.0) == ()
    assert beliefs.after("DAPI", "p0", said, sharp=3.0) == before.likely
    np.testing.assert_array_equal(beliefs.seen()["DAPI"].chances, before.chances)
    # and the next one of that specimen need not be looked at
    assert beliefs.known("DAPI", "p0", sharp=3.0) == before.likely


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_sharpness_is_that_of_the_specimen(dtype: type) -> None:
    sharp = np.random.default_rng(0).uniform(0, 200, (300, 200))
    soft = (sharp + np.roll(sharp, 1, 1)) / 2
    first = sharpness(sharp.astype(dtype))
    assert sharpness((0.5 * sharp + 20).astype(dtype)) == pytest.approx(first, rel=0.03)
    assert sharpness(soft.astype(dtype)) < 0.7 * first
    assert sharpness(np.full((64, 64), 7, dtype)) == 0.0


@pytest.fixture(scope="module")
def engine() -> Iterator[OpenVinoEngine]:
    """Give the model that ships for any objective."""
    engine = OpenVinoEngine(shipped_models()["any-objective"], precision="f32")
    yield engine
    engine.close()


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("number", [2, 4])
def test_no_frame_is_made_worse_where_focus_is_found_again(
    engine: OpenVinoEngine, number: int, told: bool
) -> None:
    case = OBJECTIVES[number]
    known = light_path_of(case.optics) if told else LightPath()
    run = Refocuser(engine)
    for example in examples(case, EVERY_FRAME + 2):
        run.believe(example.frame, "DAPI", known, "p0")
    for example in examples(case._replace(defocus_um=0.0), 5, seed=33):
        found = run.refocus(example.frame, "DAPI", known, position="p0")
        assert quality(example, found.pixels) > quality(example, example.frame) - 0.3
    assert found.judgement.verdict == "in-focus"
