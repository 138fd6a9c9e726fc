"""All frames of a hardware sequence are fetched, the last ones too.

pymmcore-plus (0.18) asks the core for a frame first, and whether the sequence still runs second.
A last frame that comes in between, as on a busy machine, would stay in the core and be lost.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from refocus.acquisition.exec_event import ExecEvent, Payload, Signal, given, watched

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus


class _ToTheLast:
    """Lets the core say that a sequence runs for as long as frames of it wait."""

    def __init__(self, core: "CMMCorePlus") -> None:
        self.on = True
        self._core = core

    def watch(self, inner: ExecEvent, event: Any) -> Generator[Payload, Signal]:
        payloads, said = given(inner, event), None
        if not hasattr(event, "events"):  # no sequence
            yield from payloads
            return
        with suppress(StopIteration):
            while True:
                said = yield self._next(payloads, said)

    def _next(self, payloads: Generator[Payload, Signal], said: Signal) -> Payload:
        """Have the engine fetch a frame: only to it a sequence runs for longer than to others."""
        core = self._core
        running, own = core.isSequenceRunning, vars(core).get("isSequenceRunning")

        def running_or_waiting(*camera: str) -> bool:
            return running(*camera) or core.getRemainingImageCount() > 0

        core.isSequenceRunning = running_or_waiting  # type: ignore[method-assign, assignment]
        try:
            return payloads.send(said)
        finally:
            del core.isSequenceRunning
            if own is not None:
                core.isSequenceRunning = own  # type: ignore[method-assign]


@contextmanager
def whole_sequences(core: "CMMCorePlus") -> Iterator[None]:
    """Let the acquisitions of a core fetch every frame that the camera gave."""
    with watched(core, _ToTheLast(core)):
        yield
