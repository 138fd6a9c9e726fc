"""A model run by PyTorch: on CUDA with frames overlapped, or on the CPU as the reference.

Knows nothing of verdicts but that a judge may be asked.
"""

__all__ = [
    "compiled",
    "counts",
    "device_frames",
    "engine",
    "filters",
    "graph",
]
