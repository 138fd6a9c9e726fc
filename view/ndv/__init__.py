"""The stream in ndv, the viewer of pymmcore-gui: captured and refocused as two channels.

Needs the extra ``[ndv]``.
"""

__all__ = ["live"]
