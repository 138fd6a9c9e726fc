"""One thread that listens to a publisher, and knows the newest of everything.

It never waits for a browser: what comes is taken at once.
"""

import logging
import threading
import time
from pathlib import Path
from typing import Self

from refocus.configs import RefocusError
from refocus.configs.hosts import is_local
from refocus.stream.subscriber import Message, Subscription
from refocus.view.stream_state import StreamState

logger = logging.getLogger("refocus.view")

POLL_S = 0.2
"""How often silence is looked at."""


class Listener(StreamState):
    """Follows an endpoint, run after run, from ``start`` to ``close``.

    Parameters
    ----------
    endpoint
        Where frames are published; the publisher may start later, and again.
    keys
        The reader's folder of keys, where the publisher asks for them.

    Raises
    ------
    RefocusError
        The endpoint is not one, or there are no such keys.
    """

    def __init__(self, endpoint: str, keys: Path | None = None) -> None:
        super().__init__(endpoint, bool(is_local(endpoint)))
        self._subscription = Subscription(endpoint, keys=keys)
        self._stopping = False
        self._thread = threading.Thread(target=self._follow, name="refocus-view-feed", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening. May be called twice."""
        self._stopping = True
        if self._thread.ident is not None:
            self._thread.join()
        self._subscription.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- on the feed's thread

    def _follow(self) -> None:
        while not self._stopping:
            try:
                self._step()
            except Exception:
                # a viewer that is left on over night goes on with the next message
                logger.exception("a message could not be shown")
                time.sleep(POLL_S)

    def _step(self) -> None:
        message: Message | None = None
        fault = ""
        try:
            message = self._subscription.receive(POLL_S)
        except RefocusError as error:
            fault = str(error)
        self.lost = self._subscription.lost
        self.note(message, self._subscription.link, fault)
