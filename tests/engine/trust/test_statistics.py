"""What verdicts are computed with, as a model file carries it."""

from typing import Any

import pytest
from pydantic import ValidationError

from refocus.configs.trust import TrustStatistics
from refocus.engine.model_file import read_model, read_trust
from refocus.engine.shipped import default_model


@pytest.mark.parametrize(
    "lies",
    [
        {"evidence_mean": [0.0]},
        {"evidence_mean": [float("nan")] * 14},
        {"evidence_scale": []},
        {"feature_basis": [[1.0]]},
        {"feature_radius": float("inf")},
        {"layers": []},
        {"layers": [{"weights": [[0.0, 0.0], [0.0]], "bias": [0.0, 0.0]}]},
    ],
)
def test_what_does_not_fit_together_is_refused(lies: dict[str, Any]) -> None:
    found = read_trust(*read_model(default_model()), "")
    assert found is not None
    told = found.model_dump()
    TrustStatistics.model_validate(told)
    with pytest.raises(ValidationError):
        TrustStatistics.model_validate({**told, **lies})
