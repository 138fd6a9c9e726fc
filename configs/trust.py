"""How a model's verdicts are reached: what calibration found, in the model file."""

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["in-focus", "refocused", "beyond", "unfamiliar", "blank", "unrated"]
"""What is said of a result; :mod:`refocus.engine.trust.judgement` says when."""


class Thresholds(BaseModel):
    """Where the verdicts begin; part of the model card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: list[list[float]]
    bias: list[float]


class TrustStatistics(BaseModel):
    """What verdicts are computed with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature_mean: list[float]
    """``(C,)``, of the encoder's features over the training set's tiles."""
    feature_basis: list[list[float]]
    """``(C, K)``: to uncorrelated components of unit variance."""
    feature_radius: float = Field(gt=0)
    """Distance from the mean that 95 % of the training set's tiles lie within."""
    evidence_mean: list[float]
    evidence_scale: list[float]
    """``(E,)`` each: evidence is standardised with them."""
    layers: list[Layer]
    """The last one gives two logits: no worse than captured, and better."""

    def digest(self) -> str:
        """Give the checksum of all numbers."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()
