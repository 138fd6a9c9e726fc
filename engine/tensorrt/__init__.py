"""A model run by TensorRT or TensorRT-RTX: built on this machine, kept, and only then trusted.

Reaches the GPU's memory through ``refocus.engine.torch``.
"""

__all__ = ["build", "cache", "engine"]
