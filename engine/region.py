"""A part of a frame that is refocused, the rest of which stays as captured."""

from dataclasses import replace

from refocus.engine.protocol import EngineError, Frame, Refocused

Region = tuple[int, int, int, int]
"""Part of a frame: ``(x, y, width, height)``, pixels."""

CONTEXT = 32
"""Pixels around a region that the engine is shown and that are not replaced."""


def shown_of(region: Region, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Give the rows and columns that an engine is shown: a region and what is around it.

    Raises
    ------
    EngineError
        The region reaches beyond a frame of this shape, or is none.
    """
    x, y, width, height = region
    inside = min(x, y) >= 0 and x + width <= shape[1] and y + height <= shape[0]
    if not inside or min(width, height) < 1:
        raise EngineError(
            f"region {x},{y},{width},{height}: reaches beyond the frame of "
            f"{shape[1]}×{shape[0]}; give X,Y,WIDTH,HEIGHT inside it"
        )
    return (
        slice(max(0, y - CONTEXT), min(shape[0], y + height + CONTEXT)),
        slice(max(0, x - CONTEXT), min(shape[1], x + width + CONTEXT)),
    )


def put_back(frame: Frame, region: Region, part: Refocused) -> Refocused:
    """Put a region into its frame, of what an engine made of it and of what is around it."""
    x, y, width, height = region
    rows, columns = shown_of(region, frame.shape)
    top, left = y - rows.start, x - columns.start
    published = frame.copy()
    published[y : y + height, x : x + width] = part.pixels[top : top + height, left : left + width]
    # tiles are counted from the corner of the frame, and these are not
    untold = replace(part.judgement, tile_distance_um=None, tile_verdicts=None)
    return replace(part, pixels=published, judgement=untold)
