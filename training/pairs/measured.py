"""Pairs that a microscope took: windows cut from fields imaged out of focus and in focus."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refocus.configs import RefocusError
from refocus.optics.images import read_image
from refocus.optics.normalise import Brightness, brightness
from refocus.training.pairs.simulate import LightPath, Pair, finish

KEPT = 256
"""Fields that stay in memory; the others are read again when they are drawn."""

Pixels = NDArray[Any]


@dataclass(frozen=True)
class MeasuredField:
    """One field of view, out of focus and in focus.

    Attributes
    ----------
    name
        For messages: the file out of focus.
    read
        Gives both as ``(H, W)``; must survive pickling, for workers.
    distance_um
        Distance from focus, µm, unsigned; NaN where it is not known.
    side
        1 on the positive side of focus, 0 on the negative one; NaN where it is not known.
    """

    name: str
    read: Callable[[], tuple[Pixels, Pixels]]
    distance_um: float = float("nan")
    side: float = float("nan")


def read_pair(out_of_focus: Path, in_focus: Path) -> tuple[Pixels, Pixels]:
    """Read a frame and its partner in focus, as stored.

    Raises
    ------
    RefocusError
        One is missing, damaged or constant, or their sizes differ.
    """
    if not in_focus.is_file():
        raise RefocusError(f"{out_of_focus}: has no partner in focus; expected {in_focus}")
    frame, target = read_image(out_of_focus), read_image(in_focus)
    if frame.shape != target.shape:
        raise RefocusError(
            f"{out_of_focus}: is {frame.shape}, its partner {in_focus} is {target.shape}; "
            "both must be of one size"
        )
    for path, pixels in ((out_of_focus, frame), (in_focus, target)):
        if pixels.min() == pixels.max():
            raise RefocusError(f"{path}: is constant; remove it from the folder")
    return frame, target


class MeasuredPairs:
    """An endless, random-access source of windows cut from measured fields.

    Parameters
    ----------
    fields
        Where the pixels come from.
    size
        Side of a pair, pixels.
    seed
        Decides the crops.

    Raises
    ------
    RefocusError
        A field cannot be read, or is smaller than a pair.
    """

    def __init__(self, fields: Sequence[MeasuredField], size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self._fields = list(fields)
        self._kept: OrderedDict[int, tuple[Pixels, Pixels, Brightness]] = OrderedDict()
        for number in range(min(len(self._fields), KEPT)):
            self._open(number)  # so that bad files are named before training starts

    def __getitem__(self, number: int) -> Pair:
        """Cut pair ``number``: a random window of a random field, turned and mirrored."""
        rng = np.random.default_rng([self.seed, 2, number])
        chosen = int(rng.integers(len(self._fields)))
        frame, target, whole = self._open(chosen)
        top, left = (int(rng.integers(0, n - self.size + 1)) for n in frame.shape)
        window = np.s_[top : top + self.size, left : left + self.size]
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
        views = []
        for pixels in (frame[window], target[window]):
            turned = np.rot90(pixels.astype(np.float32), turns)
            views.append(turned[:, ::-1] if mirrored else turned)
        level = whole if rng.random() < 0.5 else brightness(views[0])
        level = Brightness(level.offset, level.scale * float(np.exp(rng.normal(0, 0.15))))
        path = LightPath(self._fields[chosen].distance_um, self._fields[chosen].side)
        return finish(views[0], views[1], level, path)

    def _open(self, number: int) -> tuple[Pixels, Pixels, Brightness]:
        if number not in self._kept:
            field = self._fields[number]
            frame, target = field.read()
            if min(frame.shape) < self.size:
                raise RefocusError(
                    f"{field.name}: is {frame.shape}, smaller than 'size: {self.size}'"
                )
            self._kept[number] = frame, target, brightness(frame)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[number]
