"""Simulated and replayed microscopes: a core whose camera, stage and specimen are software.

Knows nothing of what becomes of their frames.
"""

__all__ = ["devices", "field", "replayed", "scene", "simulated", "virtual"]
