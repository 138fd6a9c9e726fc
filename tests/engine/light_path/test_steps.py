"""What the known steps of a z-stack tell of the light path of its planes."""

import numpy as np
import pytest

from refocus.configs.light_path import LightPath
from refocus.engine.light_path.belief import Beliefs
from refocus.engine.light_path.estimate import ABERRATIONS, PRIOR, RADII, Posterior, log_softmax
from refocus.engine.light_path.sight import Sight, open_sight, radius_per_um
from refocus.engine.model_file import read_model
from refocus.engine.shipped import shipped_models
from refocus.optics.transfer import blur_of, paraxial
from refocus.training.judging.objectives import OBJECTIVES, Case, examples

SILENT = Posterior(log_softmax(PRIOR), 0.7, 0.5)
"""Of a frame that tells nothing."""


def at(radius: float) -> Posterior:
    """Say that a frame is so far from focus, on whichever side, with whichever aberration."""
    off = (np.log(RADII + 0.3) - np.log(abs(radius) + 0.3)) / 0.15
    return Posterior(log_softmax(PRIOR - (off**2 / 2)[:, None]), 0.7, 0.5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("told", "expected"), [(True, 9.0), (False, 3.0)])
def test_a_step_leads_through_focus_to_the_other_side(
    told: bool, expected: float, sign: float
) -> None:
    beliefs = Beliefs()
    for radius in (-12.0, -9.0, -6.0, -3.0):
        beliefs.after("DAPI", "p0", at(radius), sign * radius if told else None, 1.0)
    found, _ = beliefs.after("DAPI", "p0", SILENT, sign * 9.0 if told else None, 1.0)
    assert found.radius * paraxial(0.5) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize(
    ("position", "z_um", "per_um"), [("p1", 9.0, 1.0), ("p0", None, 1.0), ("p0", 9.0, 0.0)]
)
def test_what_is_no_step_of_known_size_moves_nothing(
    position: str, z_um: float | None, per_um: float
) -> None:
    beliefs, others = Beliefs(), Beliefs()
    for one in (beliefs, others):
        one.after("DAPI", "p0", at(6.0), -3.0, 1.0)
    wanted = others.after("DAPI", position, SILENT)
    assert beliefs.after("DAPI", position, SILENT, z_um, per_um) == wanted


def test_chances_stay_whole_however_far_a_step_leads() -> None:
    beliefs = Beliefs()
    for z_um in (0.0, 1.0, -3.0, 500.0, -500.0, 0.0):
        beliefs.after("DAPI", "p0", at(4.0), z_um, 1.0)
        chances = beliefs.seen()["DAPI"].folded
        assert chances.shape == (RADII.size, ABERRATIONS.size)
        assert chances.min() >= 0.0
        assert chances.sum() == pytest.approx(1.0)


def test_every_plane_of_a_stack_is_looked_at() -> None:
    beliefs = Beliefs()
    for _ in range(20):
        beliefs.after("DAPI", "p0", at(4.0), 2.0, 1.0)
    assert beliefs.known("DAPI", "p0", 2.0)
    assert not beliefs.known("DAPI", "p0", 4.0)


@pytest.fixture(scope="module")
def sight() -> Sight:
    """Give the estimator that ships."""
    opened = open_sight(*read_model(shipped_models()["any-objective"]), "it")
    assert opened is not None
    return opened


def test_the_steps_of_a_simulated_stack_bring_its_distances(sight: Sight) -> None:
    optics, step = OBJECTIVES[1].optics, 2.0
    path = LightPath(optics.pixel_size_um, optics.na, optics.immersion_index, optics.emission_um)
    errors: dict[bool, list[float]] = {True: [], False: []}
    for stack in range(3):
        beliefs = {told: Beliefs() for told in errors}
        for plane in range(9):
            distance = (plane - 4 + 0.3 * stack) * step
            (shown,) = examples(Case("", optics, distance), 1, seed=stack)
            frame = sight.look(shown.frame, path)
            assert frame is not None
            for told, of in beliefs.items():
                z_um = plane * step if told else None
                found, _ = of.after("", "", frame, z_um, radius_per_um(path))
                wanted = abs(blur_of(optics, distance).radius)
                errors[told].append(abs(found.radius - wanted) if plane > 1 else 0.0)
    assert np.mean(errors[True]) < 0.4 * np.mean(errors[False])
