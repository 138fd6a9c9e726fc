"""Light and pictures, in NumPy and SciPy alone: what several stages need.

:mod:`~refocus.optics.psf` how a point looks out of focus;
:mod:`~refocus.optics.transfer` the same by frequency, whatever the objective;
:mod:`~refocus.optics.defocus` how a specimen does;
:mod:`~refocus.optics.camera` what a camera makes of it;
:mod:`~refocus.optics.specimens` synthetic fields in focus;
:mod:`~refocus.optics.focus` how sharp a frame is;
:mod:`~refocus.optics.metrics` how near two frames are;
:mod:`~refocus.optics.images` reading image files.
"""

__all__ = [
    "camera",
    "defocus",
    "drawing",
    "focus",
    "images",
    "metrics",
    "normalise",
    "ome_xml",
    "ome_zarr",
    "paths",
    "phase",
    "psf",
    "specimens",
    "tiff_metadata",
    "transfer",
]
