"""Memory that a server on the same host reads frames from and writes results to."""

import mmap
import os
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refocus.engine.protocol import log

if TYPE_CHECKING:
    from tritonclient.grpc import InferenceServerClient

FOLDER = Path("/dev/shm")
ALIGNED = 64
ANSWER_S = 5.0
TRIES = 3
AGAIN_S = 0.02

Part = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and type of one array."""


def can_share() -> bool:
    """Tell whether this host has the memory that Triton shares."""
    return sys.platform == "linux" and FOLDER.is_dir()


class SharedArrays:
    """Arrays side by side in memory that a server was told of.

    The file is gone again once the server has opened it, so that a kill leaves none behind.

    Parameters
    ----------
    client
        Of a server on this host.
    parts
        Shape and type of each array, by name.

    Raises
    ------
    OSError
        There is no room for them.
    InferenceServerException
        The server does not see this memory.
    """

    def __init__(self, client: "InferenceServerClient", parts: Mapping[str, Part]) -> None:
        self.parts = dict(parts)
        self.region = f"refocus-{os.getpid()}-{secrets.token_hex(6)}"
        self.places: dict[str, tuple[int, int]] = {}
        end = 0
        for name, (shape, dtype) in self.parts.items():
            size = int(np.prod(shape)) * dtype.itemsize
            self.places[name] = end, size
            end += -(-size // ALIGNED) * ALIGNED
        file = FOLDER / self.region
        number = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(number, 0, end)  # memory that is not there is a SIGBUS later
            self._memory = mmap.mmap(number, end)
            client.register_system_shared_memory(
                self.region, f"/{self.region}", end, client_timeout=ANSWER_S
            )
        finally:
            os.close(number)
            file.unlink()

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Look at one array; the server may write to it."""
        shape, dtype = self.parts[name]
        return np.ndarray(shape, dtype, self._memory, self.places[name][0])

    def release(self, client: "InferenceServerClient") -> None:
        """Let the server forget this memory; raises what the client raises.

        A server that is busy may not take the first word, or not act on it: it is told again.
        """
        for again in range(TRIES, 0, -1):
            try:
                client.unregister_system_shared_memory(self.region, client_timeout=ANSWER_S)
                known = client.get_system_shared_memory_status(client_timeout=ANSWER_S).regions
            except Exception:
                if again == 1:
                    raise
            else:
                if self.region not in known:
                    return
            time.sleep(AGAIN_S)
        log.warning("the Triton server keeps memory that is not shared any more")
