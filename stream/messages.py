"""The headers of schema ``refocus/1``: what travels beside the pixels, as UTF-8 JSON.

Every message is multipart: a topic, a header, and for a frame its pixels, raw, little-endian and
C-ordered: the refocused ones, then the captured ones if the publisher was asked for them. Keys
that a reader does not know are ignored; a change of meaning changes the number of the schema.
"""

import json
import math
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from refocus.configs import RefocusError, first_fault
from refocus.configs.trust import Verdict

SCHEMA: Literal["refocus/1"] = "refocus/1"

RUN, FRAME, STATS, END = b"refocus.run", b"refocus.frame", b"refocus.stats", b"refocus.end"

READERS = b"refocus.readers"
"""Nothing is sent under it: a reader subscribes to it, last of all, to be counted."""

Count = Annotated[int, Field(ge=0, le=2**53)]
"""As far as every reader of JSON counts."""


def _known(verdict: Any) -> Any:
    """Take a word of a later version for ``unrated``, so that a new one breaks no reader."""
    return verdict if not isinstance(verdict, str) or verdict in get_args(Verdict) else "unrated"


def _counted(verdicts: Any) -> Any:
    if not isinstance(verdicts, dict) or all(_known(name) == name for name in verdicts):
        return verdicts
    if not all(type(count) is int for count in verdicts.values()):
        return verdicts  # validation says so
    counts: dict[str, int] = {}
    for name, count in verdicts.items():
        counts[_known(name)] = counts.get(_known(name), 0) + count
    return counts


def _parsed(data: bytes) -> Any:
    try:
        return from_json(data)
    except ValueError:  # it is the faster one, and refuses deep nesting, half letters and UTF-16
        return json.loads(data)


class Header(BaseModel):
    """What all headers have."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, use_attribute_docstrings=True
    )

    schema_: Literal["refocus/1"] = Field(default=SCHEMA, alias="schema")
    run: str
    """Identifier of the run, fresh for each."""

    def encode(self) -> bytes:
        """Give the JSON that travels."""
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the JSON that arrived.

        Raises
        ------
        RefocusError
            It is of another schema, or no valid header.
        """
        try:
            content = _parsed(data)
            schema = content["schema"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise RefocusError(
                "message: its header is not JSON of schema refocus/1; is something else "
                "publishing on this endpoint?"
            ) from None
        if schema != SCHEMA:
            raise RefocusError(
                f"message: of schema {schema!r:.60}, and this reader understands {SCHEMA!r}; "
                "install the same version of refocus-live on both sides"
            )
        try:
            header = cls.model_validate(content)
        except ValidationError as error:
            where, said = first_fault(error)
            raise RefocusError(
                f"message: {where or 'header'} of {cls.__name__}: {said}; "
                "the publisher does not keep to schema refocus/1"
            ) from None
        # JSON has no infinity, but 1e999; not refused in the model, for what a microscope says of
        # itself must not keep a frame from being published
        for name, value in vars(header).items():
            numbers = value.values() if isinstance(value, dict) else (value,)
            if any(isinstance(n, float) and not math.isfinite(n) for n in numbers):
                raise RefocusError(
                    f"message: {name} of {cls.__name__}: not a finite number; "
                    "the publisher does not keep to schema refocus/1"
                )
        return header


class RunHeader(Header):
    """``refocus.run``: sent at the start of a run, and every second for those who join late."""

    next_number: Count
    """The number that the next frame will have: those before it were sent already."""
    sequence: dict[str, Any]
    """The useq sequence; empty where there is none that can be written down."""
    camera: dict[str, Any]
    engine: dict[str, Any]
    """``name, model, sha256, precision, device`` and the whole model ``card``."""
    policy: str
    shared_memory: bool = False
    """Whether readers on the same host may subscribe to ``refocus.shared``."""


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", use_attribute_docstrings=True, allow_inf_nan=False
    )


class TimesMs(_Part):
    """How long a frame spent where, ms."""

    queued: float
    """From capture to the engine."""
    engine: float
    """In the engine."""
    published: float
    """From capture to this message."""


class Focus(_Part):
    """How far from focus a frame was taken to be, µm at the optics of the model's card."""

    distance_um: Annotated[float, Field(ge=0)]
    """Median over the frame, on either side of focus."""
    sigma_um: Annotated[float, Field(ge=0)]
    """Standard deviation expected of it."""
    positive_side: Annotated[float, Field(ge=0, le=1)] | None = None
    """How likely the frame is to be on the positive side of focus. Which way a stage has to go from
    there depends on the sign of the objective's spherical aberration, so it is the same for all
    frames of one microscope; near 0.5 the sides look alike. Missing where nobody knows."""


class Trust(_Part):
    """How far a result can be trusted."""

    verdict: Annotated[Verdict, BeforeValidator(_known)]
    """``in-focus``: left alone. ``refocused``: better than captured. ``beyond``: too far from
    focus to restore. ``unfamiliar``: likely to be made worse. ``blank``: shows nothing
    but noise, so has no distance from focus. ``unrated``: not judged. A reader takes a word that it
    does not know for ``unrated``."""
    share: Annotated[float, Field(ge=0, le=1)]
    """How much of the frame the engine would publish refocused: 0 as captured, 1 all of it."""
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    """Probability that the network's result is not worse than the captured frame."""
    consistency: float | None = None
    """The result, blurred again, against the captured frame, in units of the camera's noise."""
    domain: float | None = None
    """Distance from what the model was trained on; 1 is the edge of it."""


class Tiles(_Part):
    """Where in a frame what was found: uneven tissue, a tilted slide; row by row from the top."""

    side_px: Annotated[float, Field(gt=0)]
    """Side of a tile, pixels of the frame; the last of a row or column are cut off."""
    rows: Annotated[int, Field(ge=1)]
    columns: Annotated[int, Field(ge=1)]
    distance_um: list[Annotated[float, Field(ge=0)]]
    """Of each tile from focus; where there is little to see, it says little."""
    share_percent: list[Annotated[int, Field(ge=0, le=100)]]
    """How much of each tile's correction the engine would publish."""

    @model_validator(mode="after")
    def _as_many_as_stated(self) -> Self:
        if {len(self.distance_um), len(self.share_percent)} != {self.rows * self.columns}:
            raise ValueError(f"not one entry for each of {self.rows} × {self.columns} tiles")
        return self


class Decided(_Part):
    """What is done about a frame, where the acquisition is steered by what its frames say."""

    action: str
    """``accept``: in focus, or nobody can tell that it is not; the captured pixels will do.
    ``refocus``: the refocused ones will. ``again``: the field is taken again. ``leave``: neither,
    and nothing more can be done. Other words may come."""
    why: str
    """In words."""
    attempt: Count
    """0 for the planned frame, 1 for the first that was added for its field."""
    take: Count
    """``frame`` of the best one of this field so far."""
    offset_um: float
    """Where the focus stage is to be for the next one, from its plan."""


class FrameHeader(Header):
    """``refocus.frame``: describes the pixels in the parts that follow it."""

    number: Count
    """Contiguous from 0 per run: a gap is a lost message."""
    frame: Count
    """Capture number, from 0."""
    refocused: bool
    """False for a frame passed through untouched."""
    pixels: Literal["refocused", "captured", "mixed"] | None = None
    """Which pixels follow: a frame that was refocused and is not trusted has the ``captured`` ones,
    one that is trusted in places has ``mixed`` ones. Missing where the publisher is older."""
    source: str
    """File name, in a replay; else empty."""
    index: dict[str, int]
    """useq index, such as ``{"t": 0, "p": 1, "c": 0, "z": 3}``."""
    channel: str
    position_um: dict[str, float]
    """Stage position ``x, y, z``, µm; axes that are unknown are absent."""
    pixel_size_um: float
    """0 where unknown."""
    exposure_ms: float
    camera: str
    shape: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    """Height and width, pixels."""
    dtype: Literal["uint8", "uint16"]
    bit_depth: Annotated[int, Field(ge=1, le=16)]
    captured_utc: str
    """ISO 8601, UTC."""
    times_ms: TimesMs
    focus: Focus | None = None
    """Null where nobody estimated it."""
    trust: Trust | None = None
    """Null for a frame passed through untouched."""
    tiles: Tiles | None = None
    """Null where tiles were not judged, or only a region was."""
    processor: str = ""
    """What made these pixels of those that ``pixels`` names; empty where nothing did."""
    decision: Decided | None = None
    """Null where the acquisition is not steered by its frames."""


class Short(_Part):
    """Where a file does not hold what it was to hold."""

    position: str
    """Its name, else its number; empty where there is none."""
    channel: str
    planned: Count | None = None
    """Frames that the sequence has; raw data alone are compared with it."""
    received: Count | None = None
    """Frames that the camera gave: of raw data."""
    published: Count | None = None
    """Frames that were handed to the writer: of refocused data."""
    on_disk: Count
    """Frames that can be read."""


class SavedFile(_Part):
    """What a file holds, read again at the end of the run."""

    planned: Count | None = None
    received: Count | None = None
    published: Count | None = None
    on_disk: Count
    missing: Count
    """Frames received or published that cannot be read."""
    short: list[Short] = []
    """By position and channel, where some are missing."""
    damaged: list[str] = []
    """Arrays that cannot be read, each with the reason."""


class StatsHeader(Header):
    """``refocus.stats``, every second: the accounts of the run so far."""

    next_number: Count
    frames: dict[str, Count]
    """``received = published + deferred + dropped + failed + in_flight``, and ``skipped``."""
    queued: Count
    capacity: Count
    peak: Count = 0
    """The most that waited so far."""
    alarm: Literal["", "high", "full"] = ""
    """``high`` at three quarters of the capacity, ``full`` at all of it."""
    camera_gaps: Count = 0
    """Frames that the camera numbered and that never arrived; not part of ``received``."""
    planned: Count | None = None
    """Frames that the sequence has, to be ``received`` or ``skipped``; null where nobody knows."""
    verdicts: Annotated[dict[Verdict, Count], BeforeValidator(_counted)] = {}
    """How many published frames got which verdict."""
    unprocessed: Count = 0
    """Published frames that the processor failed on: they are as captured."""
    fps: float
    latency_ms: dict[str, float]
    """``p50, p99, max`` from capture to publication."""
    engine_ms: dict[str, float]


class EndHeader(StatsHeader):
    """``refocus.end``, once: the final accounts of the run."""

    saved: dict[str, SavedFile] | None = None
    """What the files ``raw`` and ``refocused`` hold; null where nothing is saved."""
