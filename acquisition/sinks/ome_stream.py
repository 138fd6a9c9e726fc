"""What we need of ome-writers and its public functions do not give; all of it, and nowhere else.

A stream only goes forward, and tells of a full disk when it is closed. Frames that come late are
filled in behind it, and its unfinished writes are looked at, through the names in ``PRIVATE``.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from refocus.configs import RefocusError
from refocus.engine.protocol import Frame

if TYPE_CHECKING:
    from ome_writers import OMEStream

PRIVATE = ("get_arrays", "_write", "_store_frame_metadata", "_futures")
"""What is used of the ``_backend`` of an ``OMEStream``."""


def check_private_names(stream: "OMEStream") -> None:
    """Refuse an ome-writers that is built otherwise than those that we know.

    Raises
    ------
    RefocusError
        The message says which of its private names is gone.
    """
    backend = getattr(stream, "_backend", None)
    gone = ["OMEStream._backend"] if backend is None else []
    if backend is not None:
        gone = [f"{type(backend).__name__}.{n}" for n in PRIVATE if not hasattr(backend, n)]
        if not gone and not isinstance(backend._futures, list):
            gone = [f"{type(backend).__name__}._futures as a list"]
    if gone:
        raise RefocusError(
            f"ome-writers {version('ome-writers')}: has no {', '.join(gone)} any more; install the "
            "version that constraints.txt names"
        )


def fill_in(
    stream: "OMEStream",
    position: int,
    index: tuple[int, ...],
    pixels: Frame,
    metadata: Mapping[str, Any],
) -> None:
    """Write a frame behind the place that the stream has come to.

    Not by the backend's own ``write``: that would cut an array that has grown back to the size of
    this frame's place.
    """
    backend: Any = stream._backend
    backend._write(backend.get_arrays()[position], index, np.asarray(pixels))
    backend._store_frame_metadata(position, index, dict(metadata))


def pending(stream: "OMEStream") -> list[Any]:
    """Give the stream's own list of unfinished writes, oldest first."""
    backend: Any = stream._backend
    found: list[Any] = backend._futures
    return found
