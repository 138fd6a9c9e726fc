"""The fastest engine that runs, and the next one when it no longer does."""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from refocus.engine.protocol import (
    UNKNOWN,
    DeviceError,
    Engine,
    EngineError,
    EngineInfo,
    Frame,
    LightPath,
    Refocused,
    Ticket,
    log,
)

if TYPE_CHECKING:
    from refocus.engine.light_path.sight import Sight


class FallbackEngine(Engine):
    """Opens the first of several engines that can be; goes on to the next when a device fails.

    Frames that the failing engine had are done by the next one, so none is lost. A frame that is
    wrong in itself (dtype, size) is refused and changes nothing.

    Parameters
    ----------
    openers
        By name, the preferred first.

    Raises
    ------
    EngineError
        None of them can be opened; the message is that of the last.
    """

    def __init__(self, openers: Mapping[str, Callable[[], Engine]]) -> None:
        self._waiting = dict(openers)
        self._lock = threading.Lock()
        self._closed = False
        self._warm: set[tuple[tuple[int, int], np.dtype[Any]]] = set()
        self._engine = self._next()

    @property
    def info(self) -> EngineInfo:
        """Which engine runs now."""
        return self._engine.info

    @property
    def overlap(self) -> int:
        """How many frames may be under way in the engine that runs now."""
        return self._engine.overlap

    @property
    def sight(self) -> "Sight | None":
        """What shows frames to the network of the engine that runs now."""
        return self._engine.sight

    def warm_up(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Warm the engine up, and any that replaces it."""
        self._warm.add((shape, dtype))
        self._with_fallback(lambda engine: engine.warm_up(shape, dtype))

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        """Send a frame on its way; see :class:`~refocus.engine.protocol.Engine`."""
        engine, first = self._with_fallback(lambda e: (e, e.submit(frame, light_path)))

        def ticket() -> Refocused:
            try:
                return first()  # type: ignore[no-any-return]
            except DeviceError as error:
                self._replace(engine, error)
            except EngineError:
                if engine is self._engine:
                    raise
                # closed meanwhile, because it failed another frame
            again: Refocused = self._with_fallback(lambda e: e.submit(frame, light_path)())
            return again

        return ticket

    def close(self) -> None:
        """Release the device."""
        with self._lock:
            self._closed = True
            self._engine.close()

    def _with_fallback(self, work: Callable[[Engine], Any]) -> Any:
        while True:
            engine = self._engine
            try:
                return work(engine)
            except DeviceError as error:
                self._replace(engine, error)
            except EngineError:
                if engine is self._engine:
                    raise
                # closed meanwhile, because it failed another thread's frame

    def _replace(self, failed: Engine, error: DeviceError) -> None:
        with self._lock:
            if self._engine is not failed:
                return  # another thread has done it
            if self._closed or not self._waiting:
                raise error
            name = failed.info.name
            log.warning("the engine %s failed: %s", name, error)
            try:
                failed.close()
            except EngineError as also:
                log.debug("closing %s: %s", name, also)
            self._engine = self._next()
            log.warning("the engine is now %s, on %s", self.info.name, self.info.device)
            for shape, dtype in self._warm:
                try:
                    self._engine.warm_up(shape, dtype)
                except DeviceError as also:  # the next frame meets it, and goes on from there
                    log.debug("warming up %s: %s", self.info.name, also)

    def _next(self) -> Engine:
        while True:
            name = next(iter(self._waiting))
            opener = self._waiting.pop(name)
            try:
                return opener()
            except EngineError as error:
                if not self._waiting:
                    raise
                log.info("the engine %s is passed over: %s", name, error)
