"""The first pass over a large plane: what is of the whole of it, and every region is told."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from refocus.optics.normalise import grid_step, sampled_brightness
from refocus.recorded.planes import Plane, RecordedPlane

ROWS, COLUMNS = 1024, 8192
"""Of what is read at a time, pixels."""


class Survey(NamedTuple):
    """What is known of a whole plane.

    Attributes
    ----------
    offset, scale
        Its brightness, counts.
    top
        Its brightest pixel.
    """

    offset: float
    scale: float
    top: int


def survey(plane: RecordedPlane) -> Survey:
    """Read a plane once, window by window.

    The brightness is that of :func:`refocus.optics.normalise.brightness`: the same order statistics
    of the same pixels.
    """
    step, sampled, top = grid_step(plane.shape[0] * plane.shape[1]), [], 0
    for row, column, pixels in _windows(plane):
        sampled.append(pixels[-row % step :: step, -column % step :: step].ravel())
        top = max(top, int(pixels.max()))
    return Survey(*sampled_brightness(np.concatenate(sampled)), top)


def _windows(plane: RecordedPlane) -> Iterator[tuple[int, int, Plane]]:
    height, width = plane.shape
    for row in range(0, height, ROWS):
        for column in range(0, width, COLUMNS):
            rows = slice(row, min(row + ROWS, height))
            yield row, column, plane.read(rows, slice(column, min(column + COLUMNS, width)))
