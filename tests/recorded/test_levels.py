"""Levels of a pyramid, averaged while rows go by."""

import numpy as np
import pytest

from refocus.recorded.levels import Shrinking, spans


@pytest.mark.parametrize("shape", [(64, 96), (65, 97), (63, 50)])
@pytest.mark.parametrize("smaller", [(32, 48), (33, 49), (7, 5), (1, 1), (60, 50)])
@pytest.mark.parametrize("heights", [(1,), (13, 64), (300,)])
def test_a_level_is_the_mean_of_what_it_covers_however_rows_come(
    shape: tuple[int, int], smaller: tuple[int, int], heights: tuple[int, ...]
) -> None:
    plane = np.random.default_rng(1).integers(0, 1 << 16, shape).astype(np.uint16)
    shrinking, made, top = Shrinking(shape, smaller, np.uint16), [], 0
    while top < shape[0]:
        height = heights[len(made) % len(heights)]
        made += list(shrinking.rows(plane[top : top + height]))
        top += height
    wanted = [
        [plane[a:b, c:d].astype(np.float64).mean() for c, d in spans(shape[1], smaller[1])]
        for a, b in spans(shape[0], smaller[0])
    ]
    np.testing.assert_array_equal(np.concatenate(made), np.rint(wanted))
