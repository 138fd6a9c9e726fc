"""Pairs of frames out of focus and in focus, measured or simulated, to a network and its report.

:mod:`~refocus.training.pairs.data` what a run trains on: :mod:`~refocus.training.pairs.simulate`,
:mod:`~refocus.training.pairs.measured`, :mod:`~refocus.training.pairs.bbbc006`,
:mod:`~refocus.training.pairs.stacks`;
:mod:`~refocus.training.network.unet` the networks;
:mod:`~refocus.training.network.losses` what training minimises;
:mod:`~refocus.training.fit` training itself;
:mod:`~refocus.training.judging.evaluate` how far to trust the result.
"""

__all__ = ["fit"]
