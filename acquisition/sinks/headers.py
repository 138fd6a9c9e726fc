"""Headers of schema ``refocus/1`` (``refocus.stream.messages``), from frames, runs and counts."""

from typing import Any

from refocus.acquisition.pipeline.frame import FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.engine.trust.judgement import Judgement
from refocus.stream.messages import Focus, FrameHeader, RunHeader, Tiles, TimesMs, Trust


def run_header(run: RunInfo, next_number: int, shared_memory: bool = False) -> RunHeader:
    """Describe a run."""
    try:
        sequence = run.sequence.model_dump(mode="json", exclude_unset=True) if run.sequence else {}
    except Exception:  # a dynamic sequence holds an iterator, which cannot be written down
        sequence = {}
    return RunHeader(
        run=run.run,
        next_number=next_number,
        sequence=sequence,
        camera=dict(run.camera),
        engine=dict(run.engine),
        policy=run.policy,
        shared_memory=shared_memory,
    )


def frame_header(run: str, result: FrameResult, published_ms: float) -> FrameHeader:
    """Describe a result, ``published_ms`` after its capture."""
    frame = result.captured
    height, width = result.pixels.shape
    return FrameHeader(
        run=run,
        number=result.number,
        frame=frame.frame,
        refocused=result.refocused,
        source=frame.source,
        index=dict(frame.index),
        channel=frame.channel,
        position_um=dict(frame.position_um),
        pixel_size_um=frame.pixel_size_um,
        exposure_ms=frame.exposure_ms,
        camera=frame.camera,
        shape=(height, width),
        dtype="uint8" if result.pixels.dtype.itemsize == 1 else "uint16",
        bit_depth=frame.bit_depth,
        captured_utc=frame.captured_utc,
        times_ms=TimesMs(
            queued=round(result.queued_ms, 3),
            engine=round(result.engine_ms, 3),
            published=round(published_ms, 3),
        ),
        focus=focus_of(result.judgement),
        trust=trust_of(result.judgement),
        tiles=tiles_of(result.judgement),
    )


def focus_of(judgement: Judgement | None) -> Focus | None:
    """Say how far from focus a frame was taken to be; None where nobody knows."""
    if judgement is None or judgement.distance_um is None:
        return None
    side = judgement.positive_side
    return Focus(
        distance_um=round(judgement.distance_um, 2),
        sigma_um=round(judgement.sigma_um or 0.0, 2),
        positive_side=None if side is None else round(side, 3),
    )


def trust_of(judgement: Judgement | None) -> Trust | None:
    """Say how far a result can be trusted; None for a frame passed through."""
    if judgement is None:
        return None
    numbers = {name: getattr(judgement, name) for name in ("score", "consistency", "domain")}
    rounded = {name: None if v is None else round(v, 3) for name, v in numbers.items()}
    return Trust(verdict=judgement.verdict, share=round(judgement.taken, 3), **rounded)


def tiles_of(judgement: Judgement | None) -> Tiles | None:
    """Say what was found where; None where tiles were not judged."""
    if judgement is None or judgement.tile_distance_um is None:
        return None
    rows, columns = judgement.tile_distance_um.shape
    return Tiles(
        side_px=round(judgement.tile_px, 2),
        rows=rows,
        columns=columns,
        distance_um=judgement.tile_distance_um.astype(float).round(1).ravel().tolist(),
        share_percent=(100 * judgement.share).round().astype(int).ravel().tolist(),
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
        "camera_gaps": stats.camera_gaps,
        "planned": stats.planned,
        **stats.report(),
    }
