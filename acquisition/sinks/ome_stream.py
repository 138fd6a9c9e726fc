"""What we need of ome-writers and its public functions do not give; all of it, and nowhere else.

A stream only goes forward, tells of a full disk when it is closed, keeps what is known of each
frame until then, and leaves out frames that are black. Frames that come late are filled in behind
it, its unfinished writes are looked at, and metadata are led elsewhere, through the names in
``PRIVATE``.
"""

import threading
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refocus.acquisition.pipeline.arrival import utc_of
from refocus.acquisition.sinks.frame_lines import OURS, FrameLines, read_lines
from refocus.configs import RefocusError
from refocus.engine.protocol import Frame

if TYPE_CHECKING:
    from ome_writers import OMEStream
    from pymmcore_plus import CMMCorePlus

PRIVATE = ("get_arrays", "_write", "_store_frame_metadata", "_futures", "_meta_mirrors")
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
    return _pending_of(stream._backend)


def _pending_of(backend: Any) -> list[Any]:
    found: list[Any] = backend._futures
    return found


def unwritten(stream: "OMEStream | None") -> int:
    """Count the frames that a stream was handed and that are not on the disk yet. Any thread."""
    waiting = getattr(getattr(stream, "_backend", None), "_futures", ())
    return sum(not one.done() for one in tuple(waiting))


def store_black(stream: "OMEStream") -> None:
    """Have black frames stored, too, so that a frame that is not there was not written."""
    import tensorstore

    backend: Any = stream._backend
    arrays = backend.get_arrays()
    for number, one in enumerate(arrays):
        spec = {
            key: value
            for key, value in one.spec().to_json().items()
            if key in {"driver", "kvstore"}
        }
        also_black = {**spec, "store_data_equal_to_fill_value": True}
        arrays[number] = tensorstore.open(also_black, open=True, read=True, write=True).result()


class LedToLines:
    """Leads what a stream is told of each frame to the lines beside its file.

    Parameters
    ----------
    stream
        Before its first frame.
    lines
        Where to.
    """

    def __init__(self, stream: "OMEStream", lines: FrameLines) -> None:
        check_private_names(stream)
        self.lines = lines
        self._lock = threading.Lock()
        backend: Any = stream._backend
        self._backend = backend
        for group, mirror in backend._meta_mirrors.items():
            mirror._frame_metadata = _Forwarded(self, group)

    def take(self, group: str, known: Mapping[str, Any]) -> None:
        """Write a line, and forget the writes that have ended well; those that failed are kept."""
        written = utc_of(time.perf_counter_ns())
        self.lines.add({"group": group, "written_utc": written, **known})
        waiting = _pending_of(self._backend)
        while len(waiting) > 1 and waiting[0].done() and waiting[0].exception() is None:
            del waiting[0]

    def give_back(self) -> None:
        """Let the stream keep them itself again: nobody will be there when it is closed."""
        with self._lock:
            kept: dict[str, list[Any]] = {}
            for line in read_lines(self.lines.zarr):
                known = {key: value for key, value in line.items() if key not in OURS}
                kept.setdefault(line["group"], []).append(known)
            for group, mirror in self._backend._meta_mirrors.items():
                forwarded = mirror._frame_metadata
                mirror._frame_metadata = forwarded.kept = kept.get(group, [])


class _Forwarded(list[Any]):
    """Stands in for a list of metadata, and stays empty."""

    def __init__(self, to: LedToLines, group: str) -> None:
        super().__init__()
        self.kept: list[Any] | None = None
        self._to = to
        self._group = group

    def append(self, known: Any) -> None:
        with self._to._lock:
            if self.kept is None:
                self._to.take(self._group, known)
            else:
                self.kept.append(known)


def raw_stream(core: "CMMCorePlus", path: Path) -> "OMEStream | None":
    """Give the stream in which a core's acquisition saves; None where it saves elsewhere or not."""
    sink: Any = getattr(core.mda, "_sink", None)
    stream, settings = getattr(sink, "_stream", None), getattr(sink, "_settings", None)
    if stream is None or settings is None or not _saves_at(settings, path):
        return None
    found: OMEStream = stream
    return found


def saves_elsewhere(core: "CMMCorePlus", path: Path) -> bool:
    """Tell whether a core's acquisition surely does not save there: but elsewhere, or nothing."""
    runner: Any = core.mda
    if not hasattr(runner, "_sink") or getattr(runner, "_handlers", None):
        return False  # by ways of their own, which nobody can tell
    sink = runner._sink
    settings = getattr(sink, "_settings", None)
    if sink is not None and settings is None:
        return False
    return settings is None or not _saves_at(settings, path)


def _saves_at(settings: Any, path: Path) -> bool:
    return Path(settings.output_path).expanduser().resolve() == path.resolve()
