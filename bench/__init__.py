"""Every benchmark and report about this project itself; nothing imports it.

``python -m refocus.bench.NAME`` runs one; ``refocus-bench`` measures hooks and transports, and
``refocus-bench scale`` plans for slides and plates.
"""

__all__ = []
