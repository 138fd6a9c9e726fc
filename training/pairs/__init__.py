"""Frames out of focus with their in-focus partners: measured, recorded, or simulated.

Knows nothing of networks.
"""

__all__ = ["bbbc006", "data", "measure", "measured", "pool", "wells"]
