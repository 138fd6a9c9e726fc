"""What the frames of a run tell together of their light path.

An instrument's aberration stays, and the distance from focus changes slowly, so each frame adds to
what is believed of its channel: a Bayes filter on the grid of the estimator, whose radius may
drift, or now and then be any other.

The planes of a z-stack lie known steps apart. The grid has two sides of focus for that: a step
moves what is believed along it, and through focus, so that planes tell each other where they are,
and on which side.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from refocus.configs.light_path import Blur
from refocus.engine.light_path.estimate import (
    NO_POWER,
    PRIOR,
    RADII,
    SAMPLINGS,
    Posterior,
    likely,
    log_softmax,
    mean_sampling,
)

STAYS, UNLIKE, MOVES = (0.4, 0.02), (0.4, 0.1), (1.5, 0.10)
"""How far the radius drifts, steps of the grid, and how likely it is to be any other: from frame to
frame at one place, where one is not as sharp as the last, and from place to place."""
SHARE_OF_A_FRAME = 0.7
"""Frames of a run tell less than independent ones would."""
EVERY_FRAME, EVERY = 12, 4
"""So many frames of a run are looked at, then one in so many, the first at each place, and those
not as sharp as the last that was looked at."""
AS_SHARP = 0.2
"""Within which part a frame is as sharp as another."""
MIDDLE, TOGETHER = 512, 4
"""Side of the part of a frame whose sharpness is measured, and how many neighbours along a row are
taken together, as of smooth specimens single ones show noise; pixels."""
NEAR, AS_LIKELY, DOUBTED = 2, 0.5, 0.3
"""A frame that is not as sharp doubts what was believed where it says by itself that the blur lies
within so many steps of the grid of it less than half as likely as elsewhere, or less than 0.3 times
as likely as believed. Focus has jumped then, and its rings are no longer those of before; frames
are looked at, and not trusted, until what is believed agrees with them."""
AT_ONE_PLACE = 8
"""So many of the last frames say together how wide the blur is."""
FORGOTTEN = 1 / 30
"""Part of what is thought of the sampling that a frame takes away, as objectives are changed."""
TURNED = 1e-4
"""How likely the aberration is to be any other from one frame to the next: the specimen's depth,
the objective or its collar has been changed."""
OF_BEFORE, CHANGED, AS_BEFORE = 4, 0.05, 0.15
"""For how many frames the belief of an earlier run counts, how likely it is that the instrument has
been changed since, and within which part its sampling is still the same."""


class Belief(NamedTuple):
    """What is believed of the light path of a channel.

    Attributes
    ----------
    chances
        ``(2, R, A)``, of each side of focus, radius and aberration of the estimator's grid; they
        add up to 1. The sides are alike, with the aberration turned round, until a step tells
        them apart.
    samplings
        ``(S,)`` logarithm of the probability of each sampling of the grid; empty where it is told.
    sampling, aperture
        As told, or estimated.
    frames
        How many have told it.
    position
        Where the last one was taken; None for one of an earlier run.
    likely
        The likeliest, and the next one that is another.
    z_um
        Where the last one lay in its z-stack; None where it was in none.
    ring_power
        ``(N, 2, BINS)`` of the last frames that were taken at the same place, if optics are told.
    sharpness
        Of the last frame that was looked at; see :func:`sharpness`.
    """

    chances: NDArray[np.float64]
    samplings: NDArray[np.float32]
    sampling: float
    aperture: float
    frames: int
    position: str | None
    likely: tuple[Blur, ...]
    z_um: float | None = None
    ring_power: NDArray[np.float64] = NO_POWER
    sharpness: float = 0.0

    @property
    def folded(self) -> NDArray[np.float64]:
        """Chances ``(R, A)`` whichever the side, of the aberration as it looks on that side."""
        return np.asarray(self.chances[0] + self.chances[1][:, ::-1])

    @classmethod
    def of_before(
        cls, chances: NDArray[np.float64], sampling: float, aperture: float, frames: int
    ) -> "Belief":
        """Take what an earlier run ended with as what this one begins with.

        The instrument's aberration is the same, at any distance, and on the other side of focus
        looks like its opposite; or it may have been changed.
        """
        aberration = chances.sum(0) / chances.sum()
        either = (1 - CHANGED) * (aberration + aberration[::-1]) / 2 + CHANGED / aberration.size
        anywhere = np.tile(either / (2 * len(chances)), (2, len(chances), 1))
        off = np.log(SAMPLINGS / sampling) / AS_BEFORE
        samplings = log_softmax(-(off**2) / 2)
        return cls(anywhere, samplings, sampling, aperture, min(frames, OF_BEFORE), None, ())


class Beliefs:
    """Beliefs of a run, channel by channel.

    Parameters
    ----------
    before
        Those that an earlier run of the rig ended with.
    """

    def __init__(self, before: Mapping[str, Belief] = MappingProxyType({})) -> None:
        self._of: dict[str, Belief] = dict(before)
        self._since: dict[str, int] = {}

    def seen(self) -> dict[str, Belief]:
        """Give what is believed of the channels that this run has seen."""
        return {name: of for name, of in self._of.items() if of.position is not None}

    def likely(self, channel: str) -> tuple[Blur, ...]:
        """Name what is believed of a channel, whatever its next frame."""
        belief = self._of.get(channel)
        return belief.likely if belief else ()

    def known(
        self, channel: str, position: str, z_um: float | None = None, sharp: float = 0.0
    ) -> tuple[Blur, ...]:
        """Name what is believed where a frame need not be looked at; nothing where it is to be.

        ``sharp`` is its :func:`sharpness`.
        """
        belief = self._of.get(channel)
        if belief is None or belief.position != position or belief.frames < EVERY_FRAME:
            return ()
        if belief.z_um != z_um:
            return ()
        self._since[channel] = self._since.get(channel, 0) + 1
        due = not self._since[channel] % EVERY
        return () if due or _unlike(belief, z_um, sharp) else belief.likely

    def after(  # noqa: PLR0917
        self,
        channel: str,
        position: str,
        frame: Posterior,
        z_um: float | None = None,
        radius_per_um: float = 0.0,
        sharp: float = 0.0,
    ) -> tuple[Blur, ...]:
        """Add what a frame says, and name the likeliest light paths.

        Parameters
        ----------
        channel, position
            Of the frame.
        frame
            What it says.
        z_um
            Where it lies in its z-stack; None where it is in none.
        radius_per_um
            How far a step of 1 µm leads along the radii of the grid; 0.0 where that is not known.
        sharp
            Its :func:`sharpness`.

        Returns
        -------
        tuple[Blur, ...]
            The likeliest, and the next one that is another. The chance of the first is 0 where the
            frame doubts it.
        """
        before = self._of.get(channel)
        stays = before is not None and position == before.position
        unlike = before is not None and stays and _unlike(before, z_um, sharp)
        doubted = before is not None and unlike and _doubts(before, frame)
        if before is not None and unlike and not doubted and not self._due(channel, before):
            self._of[channel] = before._replace(sharpness=sharp)  # of another specimen, or dimmer
            return before.likely
        told = SHARE_OF_A_FRAME * (frame.log - PRIOR)
        evidence = np.stack([told, told[:, ::-1]])
        samplings, frames = SHARE_OF_A_FRAME * frame.samplings, 1
        power = frame.ring_power
        thought = np.exp(np.stack([PRIOR, PRIOR[:, ::-1]])) / 2
        if before is not None:
            thought = before.chances
            if stays and z_um is not None and before.z_um is not None and radius_per_um:
                thought = _stepped(thought, (z_um - before.z_um) * radius_per_um)
            thought = _moved(thought, UNLIKE if unlike else STAYS if stays else MOVES)
            frames = before.frames + 1
            alike = before.ring_power.shape[1:] == power.shape[1:] and not doubted
            if stays and z_um == before.z_um and alike:
                power = np.concatenate([before.ring_power, power])[-AT_ONE_PLACE:]
            if before.samplings.size == samplings.size:
                samplings = samplings + (1 - FORGOTTEN) * before.samplings
        chances = thought * np.exp(evidence - evidence.max())
        chances /= chances.sum()
        samplings = log_softmax(samplings) if samplings.size else samplings
        sampling = mean_sampling(samplings) if samplings.size else frame.sampling
        belief = Belief(
            chances, samplings, sampling, frame.aperture, frames, position, (), z_um, power, sharp
        )
        log = log_softmax(np.log(belief.folded + 1e-30))
        names = tuple(likely(Posterior(log, sampling, frame.aperture, ring_power=power)))
        self._of[channel] = belief = belief._replace(likely=names)
        if before is None or not doubted or not _doubts(belief, frame):
            return names
        self._of[channel] = belief._replace(sharpness=before.sharpness)  # look at the next
        return names[0]._replace(chance=0.0), *names[1:]

    def _due(self, channel: str, before: Belief) -> bool:
        """Say whether a frame is looked at whatever its sharpness."""
        return before.frames < EVERY_FRAME or not self._since.get(channel, 0) % EVERY


def sharpness(pixels: NDArray[Any]) -> float:
    """Differences of neighbours over contrast, squared, in the middle of a frame ``(H, W)``.

    Of one specimen in the same light it hardly changes while focus does not; noise adds to it. Of a
    fourth of the rows, so that each frame can be asked.
    """
    top, left = (max(0, n - MIDDLE) // 2 for n in pixels.shape)
    rows = pixels[top : top + MIDDLE : 4, left : left + MIDDLE]
    whole = rows[:, : rows.shape[1] // TOGETHER * TOGETHER].reshape(len(rows), -1, TOGETHER)
    rows = whole.sum(2, dtype=np.float32)
    change = np.diff(rows).ravel()
    contrast: float = rows.var() * change.size
    return float(change @ change) / max(contrast, 1e-6)


def _unlike(before: Belief, z_um: float | None, sharp: float) -> bool:
    """Say whether a frame that should be as sharp as the last one is not."""
    return z_um == before.z_um and abs(sharp - before.sharpness) > AS_SHARP * before.sharpness


def _doubts(before: Belief, frame: Posterior) -> bool:
    """Say whether a frame by itself speaks against what was believed."""
    said = np.exp(frame.log).sum(1)
    believed, seen = (
        said[max(0, row - NEAR) : row + NEAR + 1].sum()
        for row in (int(np.argmax(before.folded.sum(1))), int(np.argmax(said)))
    )
    return bool(believed < max(AS_LIKELY * seen, DOUBTED * before.likely[0].chance))


def _moved(chances: NDArray[np.float64], how: tuple[float, float]) -> NDArray[np.float64]:
    """Let the radius drift, or be any; the aberration nearly always stays."""
    drift, jump = how
    drifted = gaussian_filter1d(chances, drift, axis=1, mode="nearest")
    moved = (1 - jump) * drifted / drifted.sum() + jump * chances.mean(1, keepdims=True)
    return np.asarray((1 - TURNED) * moved + TURNED * moved.mean(2, keepdims=True))


def _stepped(chances: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    """Move the radius by a step that is known, through focus where it leads there.

    Whichever way the stage counts: with every sign turned round the world looks the same.
    """
    along = np.concatenate([-RADII[:0:-1], RADII])
    middle = RADII.size - 1
    line = np.concatenate([chances[1, :0:-1], chances[0]])
    line[middle] += chances[1, 0]
    places = np.clip(along + by, along[0], along[-1])
    after = np.clip(np.searchsorted(along, places), 1, along.size - 1)
    part = ((places - along[after - 1]) / (along[after] - along[after - 1]))[:, None]
    moved = np.zeros_like(line)
    np.add.at(moved, after - 1, (1 - part) * line)
    np.add.at(moved, after, part * line)
    moved[middle] /= 2
    return np.stack([moved[middle:], moved[middle::-1]])
