"""Headers of schema ``refocus/1`` (``refocus.stream.messages``), from frames, runs and counts.

What a microscope says of itself need not be valid: a stage that has lost its reference is at NaN,
a file name may be no text. What leaves is: a number that is none is left out, or 0 where the schema
asks for one, and half a character is the sign for an unknown one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from refocus.acquisition.pipeline.frame import FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.engine.trust.judgement import Judgement
from refocus.stream.messages import Decided, Focus, FrameHeader, RunHeader, Tiles, TimesMs, Trust

DEEPEST = 32
"""Levels of what a microscope says of itself."""


@dataclass(frozen=True)
class Made:
    """How a run makes what it publishes.

    Attributes
    ----------
    of_region
        Only a part of each frame is refocused.
    as_trusted
        Where a result is not trusted the captured pixels are published.
    """

    of_region: bool = False
    as_trusted: bool = True

    def pixels_of(self, result: FrameResult) -> Literal["refocused", "captured", "mixed"]:
        """Say which pixels a result has."""
        if not result.refocused or result.pixels is result.captured.pixels:
            return "captured"
        share = result.judgement.share if result.judgement and self.as_trusted else None
        if share is not None and not share.any():
            return "captured"
        part = share is not None and bool((share != 1).any())
        return "mixed" if part or self.of_region else "refocused"


def run_header(run: RunInfo, next_number: int) -> RunHeader:
    """Describe a run."""
    try:
        said = run.planned or run.sequence
        sequence = said.model_dump(mode="json", exclude_unset=True) if said else {}
    except Exception:  # a dynamic sequence holds an iterator, which cannot be written down
        sequence = {}
    return RunHeader(
        run=run.run,
        next_number=next_number,
        sequence=_plain(sequence),
        camera=_plain(run.camera),
        engine=_plain(run.engine),
        policy=run.policy,
    )


def frame_header(
    run: str, result: FrameResult, published_ms: float, made: Made = Made()
) -> FrameHeader:
    """Describe a result, ``published_ms`` after its capture."""
    frame = result.captured
    height, width = result.pixels.shape
    return FrameHeader(
        run=run,
        number=result.number,
        frame=frame.frame,
        refocused=result.refocused,
        pixels=made.pixels_of(result),
        source=_text(frame.source),
        index={_text(axis): int(place) for axis, place in frame.index.items()},
        channel=_text(frame.channel),
        position_um=_finite(frame.position_um),
        pixel_size_um=_number(frame.pixel_size_um),
        exposure_ms=_number(frame.exposure_ms),
        camera=_text(frame.camera),
        shape=(height, width),
        dtype="uint8" if result.pixels.dtype.itemsize == 1 else "uint16",
        bit_depth=min(16, max(1, frame.bit_depth)),
        captured_utc=frame.captured_utc,
        times_ms=TimesMs(
            queued=round(_number(result.queued_ms), 3),
            engine=round(_number(result.engine_ms), 3),
            published=round(_number(published_ms), 3),
        ),
        focus=focus_of(result.judgement),
        trust=trust_of(result.judgement),
        tiles=tiles_of(result.judgement),
        processor=_text(result.processor),
        decision=Decided(**result.decision) if result.decision else None,
    )


def _text(text: str) -> str:
    """Give text that UTF-8 can carry; itself if it is, as it nearly always is."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(value: Any) -> float:
    """Give a number, or 0 where there is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) else 0.0


def _finite(position: Mapping[str, float]) -> dict[str, float]:
    """Give the axes that are known."""
    return {
        _text(axis): um
        for axis, um in position.items()
        if isinstance(um, float | int) and math.isfinite(um)
    }


def _plain(value: Any, deep: int = 0) -> Any:
    """Give what JSON can carry of a value."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or deep >= DEEPEST:
        return None
    if isinstance(value, Mapping):
        return {_text(str(key)): _plain(one, deep + 1) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one, deep + 1) for one in value]
    return _plain(value.tolist(), deep + 1) if hasattr(value, "tolist") else _text(str(value))


def _within(value: float | None, low: float, high: float) -> float | None:
    """Give a number within bounds, or None where there is none."""
    return None if value is None or not math.isfinite(value) else min(high, max(low, value))


def focus_of(judgement: Judgement | None) -> Focus | None:
    """Say how far from focus a frame was taken to be; None where nobody knows."""
    if judgement is None or (distance := _within(judgement.distance_um, 0.0, 1e6)) is None:
        return None
    side = _within(judgement.positive_side, 0.0, 1.0)
    return Focus(
        distance_um=round(distance, 2),
        sigma_um=round(_within(judgement.sigma_um, 0.0, 1e6) or 0.0, 2),
        positive_side=None if side is None else round(side, 3),
    )


def trust_of(judgement: Judgement | None) -> Trust | None:
    """Say how far a result can be trusted; None for a frame passed through."""
    if judgement is None:
        return None
    numbers = {
        "score": _within(judgement.score, 0.0, 1.0),
        "consistency": _within(judgement.consistency, -1e9, 1e9),
        "domain": _within(judgement.domain, -1e9, 1e9),
    }
    rounded = {name: None if v is None else round(v, 3) for name, v in numbers.items()}
    share = _within(judgement.taken, 0.0, 1.0) or 0.0
    return Trust(verdict=judgement.verdict, share=round(share, 3), **rounded)


def tiles_of(judgement: Judgement | None) -> Tiles | None:
    """Say what was found where; None where tiles were not judged."""
    if judgement is None or judgement.tile_distance_um is None:
        return None
    distance = judgement.tile_distance_um.astype(float)
    if not np.isfinite(distance).all() or not np.isfinite(judgement.share).all():
        return None
    rows, columns = distance.shape
    # not validated: a thousand numbers that were made valid here, and the acquisition waits
    return Tiles.model_construct(
        side_px=round(judgement.tile_px, 2),
        rows=rows,
        columns=columns,
        distance_um=distance.clip(0).round(1).ravel().tolist(),
        share_percent=(100 * judgement.share.clip(0, 1)).round().astype(int).ravel().tolist(),
    )


def stats_fields(stats: Stats, next_number: int) -> dict[str, Any]:
    """Give the fields of a ``StatsHeader`` or ``EndHeader``."""
    return {
        "run": stats.run,
        "next_number": next_number,
        "queued": stats.queued,
        "capacity": stats.capacity,
        "peak": stats.peak,
        "alarm": stats.alarm,
        "verdicts": dict(stats.verdicts),
        "unprocessed": stats.unprocessed,
        "camera_gaps": stats.camera_gaps,
        "planned": stats.planned,
        "saved": _plain(stats.saved) or None,
        **stats.report(),
    }
