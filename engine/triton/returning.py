"""A served engine while its server is there, one of this host while it is not."""

import threading
from collections.abc import Callable
from typing import Any

from refocus.engine.fallback import FallbackEngine
from refocus.engine.protocol import DeviceError, Engine, log

EVERY_S = 2.0
"""How often a server that went is looked for."""


class ReturningEngine(FallbackEngine):
    """Goes on to an engine of this host when the served one fails, and back when that returns.

    Frames that the failing engine had are done by the other, so none is lost.

    Parameters
    ----------
    opener
        Opens the served engine, anew after each failure; what it raises the first time is raised.
    spare
        Of this host; open, and closed with this one.
    every_s
        How often a server that went is looked for, seconds.
    """

    def __init__(
        self, opener: Callable[[], Engine], spare: Engine, every_s: float = EVERY_S
    ) -> None:
        super().__init__({"served": opener})
        self._opener, self._spare, self._every_s = opener, spare, every_s
        self._waiting["spare"] = lambda: spare
        self._ending = threading.Event()
        self._watch: threading.Thread | None = None

    def close(self) -> None:
        """Release both."""
        self._ending.set()
        with self._lock:
            watch = self._watch
        if watch is not None:
            watch.join()
        super().close()
        self._spare.close()

    def _replace(self, failed: Engine, error: DeviceError) -> None:
        super()._replace(failed, error)
        with self._lock:
            if self._engine is self._spare and self._watch is None and not self._closed:
                self._watch = threading.Thread(target=self._look, name="refocus-triton-back")
                self._watch.daemon = True
                self._watch.start()

    def _look(self) -> None:
        """Look for the server until it is back."""
        told = ""
        while not self._ending.wait(self._every_s):
            try:
                back = self._opened()
            except Exception as error:
                # a server that is not there yet is no news; one with another model is
                if str(error) != told and not isinstance(error, DeviceError):
                    log.warning("the served engine is not taken back: %s", error)
                told = str(error)
                continue
            with self._lock:
                self._engine = back
                self._waiting["spare"] = lambda: self._spare
                self._watch = None
            log.warning("the engine is %s again, on %s", back.info.name, back.info.device)
            return

    def _opened(self) -> Engine:
        back = self._opener()
        try:
            for shape, dtype in list[Any](self._warm):
                back.warm_up(shape, dtype)
        except BaseException:
            back.close()
            raise
        return back
