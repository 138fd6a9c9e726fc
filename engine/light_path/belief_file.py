"""What a rig's runs tell of its light path, kept in a file from run to run, channel by channel.

JSON, with the checksum of the estimator that each belief is of: another one's grid may look the
same, and its mistakes are its own.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from refocus.configs import RefocusError, reason_of
from refocus.configs.files import is_no_file, replacing
from refocus.engine.light_path.belief import Belief, Beliefs
from refocus.engine.light_path.estimate import ABERRATIONS, RADII

Row = Annotated[
    list[Annotated[float, Field(ge=0.0, le=1.0)]],
    Field(min_length=ABERRATIONS.size, max_length=ABERRATIONS.size),
]


class KeptBelief(BaseModel):
    """What is believed of one channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    estimator_sha256: str
    sampling: float = Field(gt=0.0, lt=10.0)
    """Pixel size × NA / wavelength."""
    aperture: float = Field(gt=0.0, lt=1.0)
    """NA / refractive index."""
    frames: int = Field(ge=1)
    """Of its run."""
    chances: Annotated[list[Row], Field(min_length=RADII.size, max_length=RADII.size)]
    """Of each radius of blur, row by row, and spherical aberration."""

    @field_validator("chances")
    @classmethod
    def _some(cls, chances: list[list[float]]) -> list[list[float]]:
        if not sum(map(sum, chances)) > 0.5:
            raise ValueError("chances that do not add up to 1")
        return chances


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal["refocus-light-path/1"] = Field(default="refocus-light-path/1", alias="schema")
    channels: dict[str, KeptBelief]


Estimator = Callable[[str], str]
"""Gives the checksum of the estimator that looks at a channel; empty where none does."""


class BeliefFile:
    """The file of a rig.

    Parameters
    ----------
    path
        It need not be there yet.
    estimator_of
        Of each channel.

    Raises
    ------
    RefocusError
        The file cannot be read, or it is another model's.
    """

    def __init__(self, path: Path, estimator_of: Estimator) -> None:
        self._path, self._estimator_of = path, estimator_of
        self._kept: dict[str, KeptBelief] = {}
        if not path.exists():
            return
        try:
            if is_no_file(path):  # reading a pipe would wait for ever
                raise OSError("no regular file")
            kept = _File.model_validate_json(path.read_bytes()).channels
        except (OSError, ValidationError) as error:
            raise RefocusError(
                f"{path}: is no file of light paths ({reason_of(error)}); remove it, or name "
                "another"
            ) from error
        for channel, belief in kept.items():
            if belief.estimator_sha256 != estimator_of(channel):
                named = f" of channel {channel}" if channel else ""
                raise RefocusError(
                    f"{path}: the light path{named} was estimated by another model; name a file "
                    "of its own for this one"
                )
        self._kept = kept

    def read(self) -> Beliefs:
        """Give what the run begins with."""
        return Beliefs(
            {
                channel: Belief.of_before(
                    np.array(kept.chances), kept.sampling, kept.aperture, kept.frames
                )
                for channel, kept in self._kept.items()
            }
        )

    def write(self, beliefs: Beliefs) -> None:
        """Write what the run ends with; channels that it did not see stay as they are.

        Raises
        ------
        RefocusError
            The file cannot be written.
        """
        seen = {
            channel: KeptBelief(
                estimator_sha256=self._estimator_of(channel),
                sampling=round(belief.sampling, 4),
                aperture=round(belief.aperture, 4),
                frames=belief.frames,
                chances=[[float(f"{chance:.4g}") for chance in row] for row in belief.folded],
            )
            for channel, belief in beliefs.seen().items()
        }
        if not seen:
            return
        stored = _File(channels={**self._kept, **seen}).model_dump(by_alias=True)
        try:
            with replacing(self._path) as part:
                part.write_text(json.dumps(stored, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise RefocusError(
                f"{self._path}: the light path is not kept: {reason_of(error)}"
            ) from error
