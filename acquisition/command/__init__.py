"""The command ``refocus-live``: sources of frames, a session, its report, and the terminal.

Nothing imports it but the viewer's demo.
"""

__all__ = ["sources"]
