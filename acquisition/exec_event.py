"""Standing between a core's acquisition engine and its runner: what each event gives, and when."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

Signal = Any
Payload = Any
ExecEvent = Callable[[Any], Iterable[Payload] | None]


class Watch(Protocol):
    """Stands between the engine and the runner while ``on``."""

    on: bool

    def watch(self, inner: ExecEvent, event: Any) -> Generator[Payload, Signal]:
        """Hand on what the engine gives for an event, and to it what the runner says."""


def given(inner: ExecEvent, event: Any) -> Generator[Payload, Signal]:
    """Give what an engine gives for an event, which may be any iterable, or None."""
    payloads = iter(inner(event) or ())
    with suppress(StopIteration):
        payload = next(payloads)
        while True:
            said = yield payload  # only a generator can be told
            payload = payloads.send(said) if isinstance(payloads, Generator) else next(payloads)


class _Watched(NamedTuple):
    """Stands for an engine's ``exec_event``; ``own`` is what stood there."""

    by: Watch
    inner: ExecEvent
    own: Any

    def __call__(self, event: Any) -> Iterable[Payload] | None:
        return self.by.watch(self.inner, event) if self.by.on else self.inner(event)


@contextmanager
def watched(core: "CMMCorePlus", by: Watch) -> Iterator[None]:
    """Let a watch stand before the engine that a core has now."""
    if (engine := core.mda.engine) is None:
        yield
        return
    inner, own = engine.exec_event, vars(engine).get("exec_event")
    engine.exec_event = _Watched(by, inner, own)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        by.on = False
        # who came after is called first, and takes this one away on leaving
        while isinstance(top := vars(engine).get("exec_event"), _Watched) and not top.by.on:
            del engine.exec_event
            if top.own is not None:  # somebody else had put theirs there
                engine.exec_event = top.own  # type: ignore[method-assign]
