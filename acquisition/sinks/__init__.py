"""Where results go: published, recorded, counted, or turned into moves of the stage.

Knows nothing of where frames come from.
"""

__all__ = [
    "focus_keeper",
    "frame_lines",
    "headers",
    "ome_stream",
    "prometheus",
    "publisher",
    "recorder",
    "reimaging",
]
