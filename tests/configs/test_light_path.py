"""What is told of the light path: what is taken, what cannot be, and in which words."""

from typing import Any

import pytest
from pydantic import ValidationError

from refocus.configs import Optics, RefocusError
from refocus.configs.light_path import (
    EMISSION_UM,
    LARGEST_INDEX,
    LARGEST_NA,
    MEDIA,
    PIXEL_UM,
    UNKNOWN,
    KnownOptics,
    LightPath,
)
from refocus.configs.live_config import RefocusOptions
from refocus.configs.loading import check

WATER = {"na": 1.2, "immersion": "water", "pixel_size_um": 0.1}
STATED = LightPath(0.3, 0.5, 1.0, 0.6)
NAN = float("nan")


@pytest.mark.parametrize(
    ("told", "stated", "known"),
    [
        ({}, UNKNOWN, UNKNOWN),
        ({}, STATED, STATED),
        (WATER | {"emission_um": 0.52}, STATED, LightPath(0.1, 1.2, 1.333, 0.52)),
        ({"emission_um": 0.52}, STATED, LightPath(0.3, 0.5, 1.0, 0.52)),
        ({"immersion": "Oil"}, STATED, LightPath(0.3, 0.5, 1.515, 0.6)),
        ({"immersion": "1.4"}, UNKNOWN, LightPath(0.0, 0.0, 1.4)),
        ({"immersion": 1.4}, UNKNOWN, LightPath(0.0, 0.0, 1.4)),
        # what does not go together: what is told counts, else the aperture
        ({"immersion": "air"}, LightPath(0.1, 1.3, 1.515), LightPath(0.1, 0.0, 1.0)),
        ({}, LightPath(0.1, 1.3, 1.0), LightPath(0.1, 1.3, 0.0)),
        ({}, LightPath(0.1, 1.3), LightPath(0.1, 1.3)),
        # what cannot be is not taken: nm for µm, what a device does not know
        ({}, LightPath(325.0, 20.0, -1.5, 520.0), UNKNOWN),
        ({}, LightPath(-0.5, 0.5, 0.0, 1e-9), LightPath(0.0, 0.5)),
        ({}, LightPath(NAN, NAN, NAN, NAN), UNKNOWN),
        (WATER, LightPath(NAN, NAN, NAN, 0.6), LightPath(0.1, 1.2, 1.333, 0.6)),
        # a channel's own
        ({"channels": {"DAPI": {"emission_um": 0.46}}}, STATED, LightPath(0.3, 0.5, 1.0, 0.46)),
        ({"channels": {"FITC": {"emission_um": 0.46}}}, STATED, STATED),
        (
            WATER | {"channels": {"DAPI": {"na": 1.1, "immersion": 1.35}}},
            UNKNOWN,
            LightPath(0.1, 1.1, 1.35),
        ),
    ],
)
def test_what_is_told_is_laid_over_what_is_stated(
    told: dict[str, Any], stated: LightPath, known: LightPath
) -> None:
    assert KnownOptics.model_validate(told).of("DAPI", stated) == known


def test_what_a_file_states_fills_the_gaps_of_what_is_told() -> None:
    told = KnownOptics(emission_um=0.52, channels={"DAPI": {"emission_um": 0.46}})  # type: ignore[dict-item]
    filled = told.filled(STATED)
    assert filled.of() == LightPath(0.0, 0.5, 1.0, 0.52)
    assert filled.of("DAPI").emission_um == 0.46
    assert KnownOptics().filled(UNKNOWN) == KnownOptics()
    assert KnownOptics().filled(LightPath(0.3, 1.0)).of() == LightPath(0.0, 1.0, 1.515)
    assert KnownOptics().filled(LightPath(0.3, 1.0, 1.333)).of() == LightPath(0.0, 1.0, 1.333)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"na": 1.3, "immersion": 1.0}, r"na 1.3 with immersion index 1: .* --immersion oil\?$"),
        ({"na": 1.2, "immersion": "air"}, r"na 1.2 with immersion index 1: .* --immersion water\?"),
        ({"na": 1.0, "immersion": "air"}, r"na 1 with immersion index 1: "),
        ({"na": 1.45, "immersion": "glycerol"}, r"na 1.45 with immersion index 1.45: .* oil\?"),
        ({"na": 1.4}, r"^optics: na 1.4 with immersion not told: .* --immersion oil\?$"),
        ({"channels": {"FITC": {"na": 1.1}}}, r"channel FITC: na 1.1 with immersion not told"),
        (WATER | {"channels": {"a": {"immersion": "air"}}}, r"channel a: na 1.2 with immersion in"),
        ({"na": 20}, r"^optics.na: 20 is no aperture; .* 0.75 of 20×/0.75"),
        *(({"na": na}, f"na: {na:g} is no aperture") for na in (0.0, -0.5, float("nan"))),
        ({"na": float("inf")}, "na: inf is no aperture"),
        ({"na": "wide"}, "na: input should be a valid number"),
        *(
            ({"immersion": m}, "immersion: give air, water, .* or an index from 1 to 1.7, got")
            for m in ("beer", "", 0.9, 1.7, "nan", float("inf"), -1.3, [1.3], "yes")
        ),
        ({"emission_um": 520}, r"emission_um: 520 µm is no wavelength of light; .* 0.52\?$"),
        ({"emission_um": 461.0}, r"did you mean 0.461\?$"),
        ({"emission_um": 0.00052}, r"did you mean 0.52\?$"),
        *(
            ({"emission_um": um}, "is no wavelength of light; give one such as 0.52")
            for um in (0.0, -0.5, 5.2, float("nan"), float("-inf"))
        ),
        ({"channels": {"DAPI": {"emission_um": 461}}}, "optics.channels.DAPI.emission_um: 461 µm"),
        ({"pixel_size_um": 325}, r"pixel_size_um: 325 µm is no size of .*; did you mean 0.325\?$"),
        ({"pixel_size_um": 65}, r"did you mean 0.065\?$"),
        ({"pixel_size_um": 0.000325}, r"did you mean 0.325\?$"),
        ({"pixel_size_um": 0, "na": 0.5}, "0 µm is no size of a pixel; leave it out"),
        *(
            ({"pixel_size_um": um}, "is no size of a pixel at the specimen; give one such as 0.325")
            for um in (-0.3, float("nan"), float("inf"), 1e9)
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_mend(told: dict[str, Any], says: str) -> None:
    with pytest.raises(RefocusError, match=says) as caught:
        check(RefocusOptions, {"optics": told})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "size_um", "refused"),
    [
        ({"na": 0.5}, 0.0, True),
        ({"channels": {"DAPI": {"na": 0.5}}}, 0.0, True),
        ({"na": 0.5}, 0.3, False),
        ({"na": 0.5, "pixel_size_um": 0.3}, 0.0, False),
        ({"emission_um": 0.5}, 0.0, False),
    ],
)
def test_an_aperture_needs_a_pixel_size(
    told: dict[str, Any], size_um: float, refused: bool
) -> None:
    optics = KnownOptics.model_validate(told)
    if not refused:
        optics.check_pixel_size(size_um)
        return
    with pytest.raises(RefocusError, match=r"^na 0.5 with pixel size 0: .* --pixel-size-um, too$"):
        optics.check_pixel_size(size_um)


@pytest.mark.parametrize(
    ("field", "bounds"),
    [
        ("na", (0.0, LARGEST_NA)),
        ("immersion_index", (0.999, LARGEST_INDEX)),
        ("emission_um", EMISSION_UM),
        ("pixel_size_um", PIXEL_UM),
    ],
)
def test_what_can_be_told_can_be_simulated(field: str, bounds: tuple[float, float]) -> None:
    for bound, inside in zip(bounds, (1e-3, -1e-3), strict=True):
        Optics.model_validate({field: bound + inside})
        with pytest.raises(ValidationError):
            Optics.model_validate({field: bound - inside})
    assert all(1.0 <= index < LARGEST_INDEX for index in MEDIA.values())
