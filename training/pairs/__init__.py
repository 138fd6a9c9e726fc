"""Frames out of focus with their in-focus partners: measured, recorded, or simulated.

Knows nothing of networks.
"""

__all__ = [
    "batched",
    "batches",
    "bbbc006",
    "data",
    "measure",
    "measured",
    "pool",
    "split",
    "stacks",
    "wells",
]
