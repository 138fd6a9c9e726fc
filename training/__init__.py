"""Pairs of frames out of focus and in focus, measured or simulated, to a network and its report.

:mod:`~refocus.training.data` what a run trains on: :mod:`~refocus.training.simulate`,
:mod:`~refocus.training.measured`, :mod:`~refocus.training.bbbc006`,
:mod:`~refocus.training.stacks`;
:mod:`~refocus.training.unet` the networks;
:mod:`~refocus.training.losses` what training minimises;
:mod:`~refocus.training.fit` training itself;
:mod:`~refocus.training.evaluate` how far to trust the result.
"""
