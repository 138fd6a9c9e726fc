"""Where results go: published, recorded, counted, or turned into moves of the stage.

Knows nothing of where frames come from.
"""

__all__ = ["focus_keeper", "headers", "prometheus", "publisher", "recorder"]
