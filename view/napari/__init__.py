"""Layers in napari that show the newest frame.

Knows nothing of the page.
"""

__all__ = []
