"""Windows of measured pairs, to calibrate on beside simulated frames."""

from collections.abc import Iterator, Sequence

import numpy as np

from refocus.training.judging.hard_sets import SIDE, HardFrame, large_enough
from refocus.training.pairs.measured import MeasuredField

MEASURED = "measured"
WINDOWS = 6
"""Windows cut from a measured pair, and a third as many from its frame in focus."""


def measured_frames(pairs: Sequence[MeasuredField], seed: int) -> Iterator[HardFrame]:
    """Cut windows from measured pairs, out of focus and in focus, to calibrate on.

    Simulated light paths agree with the model's optics better than any instrument does.

    Parameters
    ----------
    pairs
        Fields; those below 320 × 320 pixels are mirrored at their edges.
    seed
        Places the windows.
    """
    for number, pair in enumerate(pairs):
        rng = np.random.default_rng([seed, 23, number])
        frame, target = (large_enough(pixels) for pixels in pair.read())
        for window in range(WINDOWS + WINDOWS // 3):
            top, left = (int(rng.integers(0, n - SIDE + 1)) for n in frame.shape)
            cut = np.s_[top : top + SIDE, left : left + SIDE]
            shown, distance = (target, 0.0) if window >= WINDOWS else (frame, pair.distance_um)
            yield HardFrame(MEASURED, pair.name, distance, shown[cut], target[cut], familiar=False)
