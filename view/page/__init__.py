"""The page in the browser: its server, its tabs, and who may see it.

Knows nothing of ZeroMQ: frames come from ``refocus.view.listener``.
"""

__all__ = ["guard", "server"]
