"""Where focus is believed to be, from distances that do not say which way.

A frame tells how far from focus it is, and how likely it is to be on one side rather than the
other, but not which way the stage has to go from there: that depends on the objective, and the next
frame, after a move, tells. So where focus may be is kept as a distribution, together with which way
is which.
"""

from typing import Any

import numpy as np
from scipy import ndimage

STEP_UM = 0.25
"""Resolution of the belief."""
DEADBAND_UM = 0.5
"""Nearer to focus than this, the stage is left where it is."""
DRIFT_UM_PER_MIN = 12.0
"""The fastest drift to expect, either way."""
SPEEDS = 17
OUTLIERS = 0.02
"""Fraction of the distances that may be anything."""
SIDE_UM = 2.0
"""From so far the side of focus counts in full."""
LIKELY = 0.2
"""Where focus is with this probability, a frame may find it without surprise."""
SURE = 0.9
"""The most that the side of one frame is believed: neighbours in time err alike."""
SMALL = 0.5
"""A deviation that is no more than this part of its distance: 8 ± 2 µm is knowledge, 8 ± 7 is not.

Of nuclei the shipped model says 0.5 ± 0.8 µm in focus and 4 to 5 ± 1.8 at 5 µm; where it cannot
tell, as of smooth tissue, 12 to 18 ± 9."""
STILL = 0.2
"""How likely a distance is, before any move, to be of something that no move changes."""
STILL_AT_MOST = 0.98
"""More is not believed of it: a specimen may come to be seen."""
MOVED_UM = 1.5
"""A move as long as this should have changed the distance."""
REPEATED = 0.25
"""Two frames of the same thing differ by this part of the deviation that each states."""


class FocusBelief:
    """Where focus is, as an offset of the stage from its plan, and how fast it drifts.

    A Bayes filter on a grid (Thrun, Burgard & Fox, Probabilistic Robotics, ch. 4): of offsets, of
    speeds of drift, and of the two ways that the sides of focus may lie. A measured distance speaks
    for both sides alike; what drift there was tells them apart, and so does the side that a frame
    seems to be on, once a move has shown which way that is.

    A distance may be of something that does not move with the stage: dust on the camera, the
    pattern of the light. Then a move changes nothing; how likely that is is kept beside.

    Parameters
    ----------
    limit_um
        Focus is looked for, and the stage moved, within this distance from the plan, µm.
    drift_um_per_min
        The fastest drift to expect, µm/min.
    upward
        How likely the positive side is that of larger stage positions.
    still
        How likely what is seen does not move with the stage: then it is the same at all places.
    around_um
        Where focus is looked for first, as an offset from the plan, µm.
    """

    def __init__(
        self,
        limit_um: float,
        drift_um_per_min: float = DRIFT_UM_PER_MIN,
        upward: float = 0.5,
        still: float = STILL,
        around_um: float = 0.0,
    ) -> None:
        self.limit_um = limit_um
        self.still = still
        self._around_um = around_um
        self._drift_um_per_min = drift_um_per_min
        self._told: tuple[float | None, float] | None = None  # at which offset, which distance
        half = round((limit_um + 10.0) / STEP_UM)
        self._offsets = np.arange(-half, half + 1) * STEP_UM
        self._speeds = np.linspace(-1, 1, SPEEDS) * drift_um_per_min / 60  # µm/s
        # before anything is known: near the plan rather than far, and slow rather than fast
        near = _normal(self._offsets - around_um, 0.5 * limit_um + 2.0)
        slow = _normal(np.linspace(-1, 1, SPEEDS), 0.4)
        self._belief = np.array([upward, 1 - upward])[:, None, None] * np.outer(slow, near)
        self._belief /= self._belief.sum()

    @property
    def upward(self) -> float:
        """How likely the positive side is that of larger stage positions."""
        return float(self._belief[0].sum())

    def elsewhere(self, around_um: float = 0.0) -> "FocusBelief":
        """Give what is to be believed of another place, of the same microscope."""
        there = FocusBelief(
            self.limit_um, self._drift_um_per_min, self.upward, self.still, around_um
        )
        there._told = None if self._told is None else (None, self._told[1])
        return there

    @property
    def is_still(self) -> bool:
        """Whether what is seen most likely does not move with the stage."""
        return self.still > 0.5

    def wander(self, seconds: float) -> None:
        """Let focus have drifted for a while."""
        for number, speed in enumerate(self._speeds):
            came_from = self._offsets - speed * seconds
            for row in self._belief[:, number]:
                row[:] = np.interp(came_from, self._offsets, row, 0.0, 0.0)
        jitter = 0.25 * abs(self._speeds[-1]) * seconds / STEP_UM
        self._belief = ndimage.gaussian_filter(self._belief, (0, 0.15, jitter), mode="nearest")
        self._belief /= self._belief.sum()

    def observe(
        self, offset_um: float, distance_um: float, sigma_um: float, positive_side: float = 0.5
    ) -> None:
        """Take in that a frame at ``offset_um`` was so far from focus, and so likely positive."""
        sigma_um = max(sigma_um, 0.5)
        fits = _normal(np.abs(self._offsets - offset_um) - distance_um, sigma_um) + OUTLIERS
        self._compare(offset_um, distance_um, sigma_um, float((self._belief * fits).sum()))
        self._belief *= fits
        above = np.clip((offset_um - self._offsets) / SIDE_UM, -1, 1)
        lean = np.clip(positive_side, 1 - SURE, SURE) - 0.5
        self._belief *= 0.5 + lean * np.stack([above, -above])[:, None]
        self._belief /= self._belief.sum()

    def _compare(
        self, offset_um: float, distance_um: float, sigma_um: float, expected: float
    ) -> None:
        """Weigh up whether the last move has changed the distance, by a ratio of densities."""
        known = sigma_um <= SMALL * distance_um
        if self._told is None:
            self._told = (offset_um, distance_um) if known else None
            return
        there_um, told_um = self._told
        same = (_normal(distance_um - told_um, REPEATED * sigma_um) + OUTLIERS) / REPEATED
        ratio = float(same) / expected
        moved = there_um is not None and abs(offset_um - there_um) >= MOVED_UM
        if not (moved and known):
            ratio = min(1.0, ratio)  # without a move, a distance that stays says nothing
        if known and (moved or there_um is None):
            self._told = offset_um, distance_um
        odds = ratio * self.still / (1 - self.still)
        self.still = min(odds / (1 + odds), STILL_AT_MOST)

    def expects(self, offset_um: float, distance_um: float, within_um: float) -> bool:
        """Say whether a frame at ``offset_um`` was to be expected so far from focus.

        By where focus most likely is, or by where it may well be: on the other side, say.
        """
        if abs(abs(self._likeliest() - offset_um) - distance_um) <= within_um:
            return True
        fitting = np.abs(np.abs(self._offsets - offset_um) - distance_um) <= within_um
        return float(self._belief.sum((0, 1))[fitting].sum()) >= LIKELY

    def best(self, offset_um: float) -> float:
        """Give where the stage should be, being at ``offset_um``."""
        if self.is_still:
            return self._around_um
        target = self._likeliest()
        if abs(target - offset_um) < DEADBAND_UM:
            return offset_um
        return float(np.clip(target, -self.limit_um, self.limit_um))

    def _likeliest(self) -> float:
        where = ndimage.gaussian_filter1d(self._belief.sum((0, 1)), 0.5 / STEP_UM)
        return float(self._offsets[int(np.argmax(where))])


def _normal(x: Any, width: float) -> Any:
    return np.exp(-0.5 * (x / width) ** 2)
