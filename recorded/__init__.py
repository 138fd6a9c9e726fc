"""Data that exist already: OME-Zarr, TIFF and folders of images, refocused into the same again.

Knows nothing of acquisitions.
"""

__all__ = ["process", "refocusing", "selection", "staff", "survey", "work"]
