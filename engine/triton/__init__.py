"""A model that NVIDIA Triton serves, on this host or another: the network is there, the rest here.

Frames are normalised, filtered and judged where they are captured, so that a server needs nothing
of this project, and whatever backend it has gives the same verdicts.
"""

__all__ = ["address", "engine", "returning", "shared", "signature"]
