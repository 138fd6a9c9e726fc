"""The radius of blur from the dark rings of spectra, through wide apertures."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from refocus.configs.light_path import Blur
from refocus.engine.light_path.belief import AT_ONE_PLACE, Beliefs
from refocus.engine.light_path.estimate import NO_POWER, PRIOR, Posterior
from refocus.engine.light_path.rings import SMALLEST_PX, WIDE, refined
from refocus.engine.light_path.spectrum import SIDE, spectra, together
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.shipped import shipped_models
from refocus.optics.transfer import blur_of, light_path_of
from refocus.training.judging.objectives import OBJECTIVES, Case, examples


def _rings(case: Case, frames: int) -> NDArray[np.float64]:
    drawn = (example.frame.astype(np.float32) for example in examples(case, frames))
    return np.stack([together(spectra(frame)[0], SIDE) for frame in drawn])


@pytest.mark.parametrize("wrong", [0.8, 1.2])
@pytest.mark.parametrize("case", OBJECTIVES[2:4], ids=lambda case: case.name)
def test_a_radius_that_is_a_fifth_off_is_mended(case: Case, wrong: float) -> None:
    true = blur_of(case.optics, case.defocus_um)
    thought = true._replace(radius=wrong * true.radius, chance=0.7)

    found = refined(thought, _rings(case, 8))

    assert found.radius == pytest.approx(true.radius, rel=0.05)
    assert found._replace(radius=thought.radius) == thought


@pytest.mark.parametrize("case", OBJECTIVES[2:4], ids=lambda case: case.name)
def test_frames_before_the_stage_moved_do_not_count(case: Case) -> None:
    now = case.nearer(0.7)
    true = blur_of(now.optics, now.defocus_um)
    rings = np.concatenate([_rings(case, 7), _rings(now, 1)])
    found = refined(true._replace(radius=1.05 * true.radius), rings)
    assert found.radius == pytest.approx(true.radius, rel=0.05)


@pytest.mark.parametrize(
    ("aperture", "radius", "rings"),
    [
        (0.9, SMALLEST_PX - 0.1, np.ones((1, 2, 96))),  # no rings to speak of
        (0.9, -SMALLEST_PX + 0.1, np.ones((1, 2, 96))),
        (0.9, 9.0, NO_POWER),  # no optics told
        (0.9, 9.0, np.zeros((1, 2, 96))),  # a black frame
        (0.9, 9.0, np.full((1, 2, 96), np.nan)),
        (WIDE - 0.01, 9.0, _rings(OBJECTIVES[1], 1)),  # the estimator knows better
    ],
)
def test_nothing_is_changed_where_nothing_can_be_told(
    aperture: float, radius: float, rings: NDArray[np.float64]
) -> None:
    thought = Blur(0.5, aperture, radius)
    assert refined(thought, rings) == thought


def test_frames_of_one_place_are_looked_at_together() -> None:
    frame = Posterior(PRIOR.astype(np.float32), 0.5, 0.5, ring_power=_rings(OBJECTIVES[1], 1))
    beliefs = Beliefs()
    kept = []
    places = [("a", None)] * (AT_ONE_PLACE + 2)
    for position, z_um in [*places, ("b", None), ("b", 0.0), ("b", 1.0)]:
        beliefs.after("", position, frame, z_um)
        kept.append(len(beliefs.seen()[""].ring_power))
    assert kept == [*range(1, AT_ONE_PLACE + 1), AT_ONE_PLACE, AT_ONE_PLACE, 1, 1, 1]
    beliefs.after("", "b", frame._replace(ring_power=NO_POWER))
    assert not beliefs.seen()[""].ring_power.size, (
        "of frames whose optics are not told there are none"
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[OpenVinoEngine]:
    opened = OpenVinoEngine(shipped_models()["any-objective"], precision="f32")
    yield opened
    opened.close()


@pytest.mark.parametrize("case", OBJECTIVES[1:4], ids=lambda case: case.name)
def test_told_the_optics_a_run_finds_its_distance(engine: OpenVinoEngine, case: Case) -> None:
    known, true = light_path_of(case.optics), blur_of(case.optics, case.defocus_um)
    beliefs = Beliefs()
    assert engine.sight is not None
    for example in examples(case, AT_ONE_PLACE):
        frame = engine.sight.look(example.frame, known)
        assert frame is not None
        first = beliefs.after("", "", frame)[0]
    assert abs(first.radius) == pytest.approx(true.radius, rel=0.08)
