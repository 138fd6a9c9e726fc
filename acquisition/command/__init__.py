"""The command ``refocus-live``: sources of frames, a session, its report, and the terminal."""
