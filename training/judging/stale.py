"""Frames shown to a network for a light path that is no longer theirs, to calibrate on.

A run believes what its last frames said. Where focus jumps, the next frame is filtered for the
blur of those before it, and nothing that is believed says so: only the result does, which, blurred
again, does not explain the frame.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from refocus.engine.openvino import OpenVinoEngine
from refocus.training.judging.hard_sets import HardFrame

STALE = "stale light path"
ONE_IN = 3
"""Of the frames out of focus. Those in focus, which have most to lose, are all shown so."""


def stale_frames(engine: OpenVinoEngine, frames: Sequence[HardFrame], seed: int) -> list[HardFrame]:
    """Let familiar frames be seen for the blur of another, at their own sampling and aperture.

    Parameters
    ----------
    engine
        Of the model, which says how each frame seems to be blurred.
    frames
        To choose from.
    seed
        Of the choice.

    Returns
    -------
    list[HardFrame]
        Empty for a network that sees the frame alone.
    """
    if engine.sight is None:
        return []
    rng = np.random.default_rng([seed, 24])
    familiar = [frame for frame in frames if frame.familiar]
    likely = [engine.sight.likely(frame.frame, frame.light_path) for frame in familiar]
    stale = []
    for frame, (mine, _) in zip(familiar, likely, strict=True):
        if frame.distance_um and rng.random() > 1 / ONE_IN:
            continue
        others = likely[int(rng.integers(len(familiar)))]
        believed = tuple(b._replace(sampling=mine.sampling, aperture=mine.aperture) for b in others)
        light_path = replace(frame.light_path, believed=believed)
        stale.append(replace(frame, group=STALE, familiar=False, light_path=light_path))
    return stale
