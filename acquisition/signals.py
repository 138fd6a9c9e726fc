"""Listening to a core on the thread that has something to say."""

from collections.abc import Callable
from typing import Any

from psygnal import SignalInstance

FIRST = 1_000_000
"""Priority among listeners: one that raises keeps the frame from those after it."""


def connect_direct(signal: Any, slot: Callable[..., None]) -> None:
    """Connect so that the slot runs on the thread that emits.

    pymmcore-plus emits Qt signals once there is a ``QApplication``, and a plain ``connect`` would
    then queue every frame for the GUI thread.
    """
    if isinstance(signal, SignalInstance):
        signal.connect(slot, priority=FIRST)
    else:
        from qtpy.QtCore import Qt

        signal.connect(slot, Qt.ConnectionType.DirectConnection)
