"""Pictures that a core takes and that nobody here refocuses: said once of each kind."""

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from refocus.acquisition.signals import connect_direct

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymmcore_plus import CMMCorePlus

logger = logging.getLogger("refocus.acquisition")

UNSEEN = "it does not see the pictures of snap() and startSequenceAcquisition()"


class Unheard:
    """Tells of snaps, and of sequences started on the camera itself.

    Both leave their pictures with whoever asked for them, and have no event that holds pixels.

    Parameters
    ----------
    core
        Whose events to listen to, until ``disconnect``.
    """

    def __init__(self, core: "CMMCorePlus") -> None:
        self._core = core
        self._warn = cache(logger.warning)  # each thing once
        self._slots: list[tuple[Any, Callable[..., None]]] = [
            (core.events.imageSnapped, self._on_snapped),
            (_plain(core.events.sequenceAcquisitionStarted), self._on_sequence),
        ]
        for signal, slot in self._slots:
            connect_direct(signal, slot)

    def disconnect(self) -> None:
        """Stop listening. May be called twice."""
        for signal, slot in self._slots:
            signal.disconnect(slot)
        self._slots.clear()

    def _on_snapped(self, *_: object) -> None:
        self._tell("snap()")

    def _on_sequence(self, *_: object) -> None:
        self._tell("startSequenceAcquisition()")

    def _tell(self, what: str) -> None:
        # an acquisition snaps, too, and starts sequences; its frames are refocused
        if not self._core.mda.is_running():
            self._warn(
                "%s: its pictures are not refocused; acquire with run_mda(), or use the live view",
                what,
            )


def _plain(signal: Any) -> Any:
    """Give the signal behind the proxy that pymmcore-plus has for slots of an older signature."""
    return getattr(signal, "_signal", signal)
