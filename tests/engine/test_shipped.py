"""Which of the models that ship frames are for."""

import pytest

from refocus.configs import BBBC006
from refocus.configs.light_path import KnownOptics, LightPath
from refocus.engine.model_file import read_model
from refocus.engine.shipped import default_model


@pytest.mark.parametrize(
    ("known", "name"),
    [
        (LightPath(), "refocus-compact"),
        (LightPath(0.656), "refocus-compact"),
        (LightPath(0.6, 0.45, 1.0, 0.52), "refocus-compact"),
        # another camera, or another binning, of the same objective
        (LightPath(0.325), "refocus-compact"),
        (LightPath(1.312, 0.5), "refocus-compact"),
        (LightPath(0.325, 0.5, 1.0, 0.46), "refocus-compact"),
        # too fine for an aperture of 0.5
        (LightPath(0.1625), "any-objective"),
        (LightPath(0.1625, 0.5), "refocus-compact"),
        (LightPath(0.65, 0.3), "any-objective"),
        (LightPath(0.325, 0.75), "any-objective"),
        (LightPath(0.108, 1.4, 1.515), "any-objective"),
        (LightPath(0.656, 0.5, 1.333), "any-objective"),
        # coarser than any-objective was trained for
        (LightPath(1.0, 0.75, 1.0, 0.46), "refocus-compact"),
        # finer than that: it resamples, and the other would refuse them
        (LightPath(0.04, 1.4, 1.515, 0.6), "any-objective"),
        (LightPath(0.03, 0.9), "any-objective"),
    ],
)
def test_a_model_of_one_instrument_is_taken_until_it_is_known_to_be_another(
    known: LightPath, name: str
) -> None:
    assert default_model(known).stem == name


def test_one_channel_of_another_aperture_is_enough() -> None:
    told = KnownOptics(pixel_size_um=0.325, na=0.5, channels={"FITC": {"na": 0.75}})  # type: ignore[dict-item]
    assert default_model(*told.of_all()).stem == "any-objective"


def test_the_instrument_is_that_of_the_card() -> None:
    of_card = read_model(default_model())[1].optics
    its = (BBBC006.na, BBBC006.pixel_size_um, BBBC006.immersion_index)
    assert (of_card.na, of_card.pixel_size_um, of_card.immersion_index) == its
