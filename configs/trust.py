"""How a model's verdicts are reached: what calibration found, in the model file."""

import hashlib
import json
from itertools import pairwise
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Verdict = Literal["in-focus", "refocused", "beyond", "unfamiliar", "blank", "unrated"]
"""What is said of a result; :mod:`refocus.engine.trust.judgement` says when."""


class Thresholds(BaseModel):
    """Where the verdicts begin; part of the model card."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    in_focus_um: float = Field(ge=0)
    """Nearer to focus than this, a frame is left alone, µm."""
    beyond_um: float = Field(gt=0)
    """Farther than this, a frame that is not made better is ``beyond``."""
    frame_score: float = Field(ge=0, le=1)
    """A frame of a lower score is not trusted."""
    tile_score: float = Field(ge=0, le=1)
    """A tile of a lower score stays as captured, in a frame that is trusted; from twice as high a
    score, all of its correction is taken."""
    full_score: float = Field(gt=0, le=1)
    """At this score of a frame all of the correction is taken; below, less and less of it."""
    better_score: float = Field(ge=0, le=1)
    """A frame that far off, with a lower score of being made better, is ``beyond``."""
    error_factor: float = Field(gt=0)
    """What the network's own scale of its error is multiplied by to be true."""
    calibrated_on: str
    """The specimens and distances, one sentence."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of :class:`TrustStatistics` as stored."""


class Layer(BaseModel):
    """One layer of the small network that scores evidence: ``x @ weights + bias``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weights: list[list[float]]
    bias: list[float]


class TrustStatistics(BaseModel):
    """What verdicts are computed with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    feature_mean: list[float]
    """``(C,)``, of the encoder's features over the training set's tiles."""
    feature_basis: list[list[float]] = Field(min_length=1)
    """``(C, K)``: to uncorrelated components of unit variance."""
    feature_radius: float = Field(gt=0)
    """Distance from the mean that 95 % of the training set's tiles lie within."""
    evidence_mean: list[float]
    evidence_scale: list[float]
    """``(E,)`` each: evidence is standardised with them."""
    layers: list[Layer]
    """The last one gives two logits: no worse than captured, and better."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not (self.layers or self.evidence_mean):
            return self  # nothing is fitted yet
        widths = [len(self.evidence_mean), *(len(layer.bias) for layer in self.layers)]
        tables = [(self.feature_basis, len(self.feature_mean), len(self.feature_basis[0]))]
        tables += [
            (layer.weights, *sizes)
            for layer, sizes in zip(self.layers, pairwise(widths), strict=True)
        ]
        if (
            len(self.evidence_scale) != widths[0]
            or widths[-1] != 2
            or any({len(r) for r in t} != {n} or len(t) != m for t, m, n in tables)
        ):
            raise ValueError("its tables do not fit together")
        return self

    def digest(self) -> str:
        """Give the checksum of all numbers."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()
