"""The refocused frames as an OME-Zarr beside the raw one.

The acquisition itself saves what the camera gave; this sink writes what became of it, with the
same axes, positions, channels and scales, so that a viewer lays one over the other. A frame
without result leaves its place empty, and is listed with the reason.

Frames come in the order of capture, but a deferred one comes later than those after it: its place
has been passed by then, and is filled in.

The provenance of each frame is a line of ``refocused.frames.jsonl`` as soon as the frame is
handed to the writer, after a first line that describes the run. At the end it is in ``zarr.json``,
too: ``attributes.ome_writers.frame_metadata``; and ``attributes.refocus`` has that of the run:
engine, model, policy, gaps.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ome_writers import AcquisitionSettings, create_stream

from refocus.acquisition.pipeline.arrival import sample
from refocus.acquisition.pipeline.frame import NO_PLACE, CapturedFrame, FrameResult
from refocus.acquisition.pipeline.layout import Places, cameras, layout, locate
from refocus.acquisition.pipeline.on_disk import Saved, gone, look
from refocus.acquisition.pipeline.plan import Where, is_planned
from refocus.acquisition.pipeline.sink import Refused, RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks.frame_lines import FrameLines
from refocus.acquisition.sinks.ome_stream import (
    LedToLines,
    check_private_names,
    fill_in,
    pending,
    store_black,
    unwritten,
)
from refocus.configs import RefocusError, reason_of

if TYPE_CHECKING:
    from ome_writers import OMEStream

logger = logging.getLogger("refocus.recorder")

PENDING = 32
"""Frames handed to the writer and not yet on the disk; more would fill the memory."""

SPARE_BYTES = 8 << 20
"""Room left on the disk, so that the metadata can still be written; a run that is stopped for want
of room leaves more, so that what it owes fits."""

LISTED_GAPS = 10_000
"""Gaps whose reasons are kept; all are counted."""


class Recorder:
    """Writes the results of a run into an OME-Zarr.

    Parameters
    ----------
    path
        Where to, such as ``DIR/refocused.ome.zarr``.
    overwrite
        Replace what is there. Otherwise a path in use is refused, and so is a second run.

    Raises
    ------
    RefocusError
        From ``start``: the path is in use or cannot be written. From ``put`` and ``close``: the
        disk is full or broken; the frames written before stay readable.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = Path(path).expanduser()  # as its writer does
        self._overwrite = overwrite
        self._stream: OMEStream | None = None
        self._settings: AcquisitionSettings | None = None
        self._lines: FrameLines | None = None
        self._taken: Counter[Where] = Counter()
        self._gone = ""
        self._over = True

    def start(self, run: RunInfo) -> None:
        """Lay out the file for a run: arrays of the planned size, and their metadata."""
        self._finish()
        self._over = False
        self._run = run
        self._places = Places(run)
        self._next = 0
        self._last = NO_PLACE
        self._sample = b""
        self._gaps: list[dict[str, Any]] = []
        self._gap_count = 0
        self._origin_ns: int | None = None
        self._settings = None
        self._taken = Counter()
        self._gone = ""
        if "width" in run.camera:  # else the first frame tells
            self._open(run.camera)

    def _open(self, camera: Mapping[str, Any]) -> "OMEStream":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failure(error) from error
        try:
            settings = layout(self._run, camera, self.path, self._overwrite)
            self._shape = tuple(dim.count for dim in settings.dimensions[-2:])
            self._dtype = settings.dtype
            stream = create_stream(settings)
            check_private_names(stream)
            self._stream = stream
            store_black(stream)
            self._lines = FrameLines(self.path)
            LedToLines(stream, self._lines)
            self._lines.add({"refocus": describe_run(self._run, camera)})
            self._settings = settings
            stream.set_global_metadata("refocus", self._provenance())
        except FileExistsError as error:
            raise RefocusError(
                f"{self.path}: exists already; name another folder, or remove it first"
            ) from error
        except (OSError, ValueError) as error:
            raise self._failure(error) from error
        return stream

    def put(self, result: FrameResult) -> None:
        """Write one result in its place.

        A frame of another size or dtype is refused, and so is a further one of the same event.
        """
        frame = result.captured
        height, width = result.pixels.shape
        if self._over:
            raise RefocusError(f"{self.path}: the recording is over; start the next run first")
        stream = self._stream or self._open(
            {
                "width": width,
                "height": height,
                "dtype": str(result.pixels.dtype),
                "pixel_size_um": frame.pixel_size_um,
            }
        )
        if result.pixels.shape != self._shape or result.pixels.dtype != self._dtype:
            self._refuse(result)
        place = self._places.of(frame)
        if place == NO_PLACE:
            self._pass_over(frame)
            return
        self._sample = sample(frame.pixels)
        try:
            if self._gone:
                raise RefocusError(self._gone)
            self._make_sure_of_room(stream, result.pixels.nbytes)
            self._write(stream, place, result)
            self._settle(stream, PENDING)
        except RefocusError:
            self._finish()
            raise
        except (OSError, ValueError, IndexError) as error:
            failure = self._failure(error)  # finishing may write anew what is gone
            self._finish()
            raise failure from error
        self._taken[frame.index.get("p", 0), frame.channel] += 1
        self._next = max(self._next, place + 1)
        self._last = max(self._last, place)

    def _refuse(self, result: FrameResult) -> NoReturn:
        """Refuse a frame of another size or dtype than the file was laid out for."""
        frame, (height, width), dtype = result.captured, result.pixels.shape, result.pixels.dtype
        self.skip(frame, f"is {width}×{height} {dtype}, unlike the first frame")
        of = f" of channel {frame.channel}" if frame.channel else ""
        rows, columns = self._shape
        raise Refused(
            f"{self.path}: frames{of} are {width}×{height} {dtype}, and the file was laid out for "
            f"{columns}×{rows} {self._dtype}: they are not saved; give all channels the same "
            "binning, region and pixel type"
        )

    def _pass_over(self, frame: CapturedFrame) -> None:
        """Leave out a frame without a place of its own; only one told of twice is not missed."""
        self._note_gap(frame, "has no place of its own in the sequence")
        if sample(frame.pixels) != self._sample:
            raise Refused(
                f"{self.path}: frames came for which the sequence has no place: they are not "
                "saved; have the acquisition engine give one frame for each event and camera"
            )

    def _write(self, stream: "OMEStream", place: int, result: FrameResult) -> None:
        """Write behind the frames before it, or where it was passed."""
        known = self._describe(result, place)
        if place < self._next:
            assert self._settings is not None
            at = locate(self._settings, place)
            fill_in(stream, at.position, at.index, result.pixels, known)
            return
        if place > self._next:
            stream.skip(frames=place - self._next)
        stream.append(result.pixels, frame_metadata=known)

    def skip(self, frame: CapturedFrame, reason: str) -> None:
        """Leave the frame's place empty, and note why."""
        place = self._places.of(frame)
        self._last = max(self._last, place)
        if self._lines is not None:
            known = {"frame": frame.frame, "index": dict(frame.index), "channel": frame.channel}
            at = None if place == NO_PLACE else place
            self._lines.add({"place": at, **known, "left_empty": reason})
        self._note_gap(frame, reason)

    def look_at_files(self, run: str) -> None:
        """See whether the file is still there; if not, the next frame is refused, and all after."""
        settings = self._settings
        if settings is not None and not (self._over or self._gone) and run == self._run.run:
            said = gone(self.path, settings)
            if run == self._run.run:  # else the next has begun meanwhile
                self._gone = said

    def saved(self) -> Saved | None:
        """Read again what the file holds of the results that it was given."""
        if self._settings is None and not self._taken:
            return None
        return look(self._run, self._settings, self.path, self._taken)

    @property
    def unwritten(self) -> int:
        """How many of the frames that it was handed are not on the disk yet. For any thread."""
        return unwritten(self._stream)

    def _note_gap(self, frame: CapturedFrame, reason: str) -> None:
        self._gap_count += 1
        if len(self._gaps) < LISTED_GAPS:
            self._gaps.append({"frame": frame.frame, "index": dict(frame.index), "reason": reason})

    def close(self, stats: Stats) -> None:
        """Write what is pending, and the final counts and gaps. May be called twice."""
        if self._stream is None:
            self._finish()
            return
        try:
            if self._last >= self._next:
                self._stream.skip(frames=self._last + 1 - self._next)
            self._settle(self._stream, 0)
            self._stream.set_global_metadata(
                "refocus", {**self._provenance(), "frames": stats.frames()}
            )
        except (OSError, ValueError) as error:
            raise self._failure(error) from error
        finally:
            self._finish()

    def _finish(self) -> None:
        """Close the stream whatever happens: what is on the disk stays readable."""
        stream, self._stream = self._stream, None
        self._over = True
        if stream is None:
            return
        waiting = pending(stream)
        while waiting:
            with suppress(Exception):  # reported by whoever called, or already known
                _written(waiting)
        try:
            stream.close()
            if self._lines is not None:
                self._lines.copy_into_zarr()
        except (OSError, ValueError) as error:
            logger.error("%s: metadata not written: %s", self.path, error)
        finally:
            if self._lines is not None:
                self._lines.close()
            self._lines = None

    def _settle(self, stream: "OMEStream", keep: int) -> None:
        """Wait until at most ``keep`` writes are pending; a write that failed raises."""
        waiting = pending(stream)
        while waiting and (len(waiting) > keep or waiting[0].done()):
            _written(waiting)

    def _make_sure_of_room(self, stream: "OMEStream", frame_bytes: int) -> None:
        # a chunk that only half fits would be worse than a gap
        needed = frame_bytes * (unwritten(stream) + 1) + SPARE_BYTES
        if shutil.disk_usage(self.path.parent).free < needed:
            raise RefocusError(
                f"{self.path}: the disk is full; make room. Frames written so far are kept"
            )

    def _failure(self, error: Exception) -> RefocusError:
        with suppress(RefocusError):
            if self._settings is not None and (said := gone(self.path, self._settings)):
                return RefocusError(said)  # a write has met with it before the next look
        return RefocusError(
            f"{self.path}: cannot be written: {reason_of(error)}; check the disk and its "
            "permissions"
        )

    def _describe(self, result: FrameResult, place: int) -> dict[str, Any]:
        if self._origin_ns is None:
            self._origin_ns = result.captured.captured_ns
        return describe_frame(result, place, self._origin_ns)

    def _provenance(self) -> dict[str, Any]:
        return {
            "run": self._run.run,
            "engine": dict(self._run.engine),
            "policy": self._run.policy,
            "gaps": {"count": self._gap_count, "listed": self._gaps},
        }


def describe_run(run: RunInfo, camera: Mapping[str, Any]) -> dict[str, Any]:
    """Give the first of the lines: what is needed to refocus later what a run still owes."""
    sequence = run.sequence if run.sequence is not None and is_planned(run.sequence) else None
    try:
        said = sequence.model_dump(mode="json", exclude_unset=True) if sequence else None
    except Exception:  # a dynamic sequence holds an iterator, which cannot be written down
        said = None
    return {
        "run": run.run,
        "sequence": said,
        "camera": {name: value for name, value in camera.items() if name != "shape"},
        "cameras": cameras(run),
        "engine": dict(run.engine),
        "policy": run.policy,
        "selection": dict(run.selection),
        "optics": dict(run.optics),
        "processor": run.processor,
    }


def describe_frame(result: FrameResult, place: int, origin_ns: int) -> dict[str, Any]:
    """Give the provenance of one frame, in ome-writers' terms where it has any.

    Parameters
    ----------
    result
        The frame.
    place
        Where it belongs in the order of the sequence.
    origin_ns
        When the first frame of the run was captured.
    """
    frame = result.captured
    engine: Mapping[str, Any] = result.engine.describe() if result.engine else {}
    return {
        "delta_t": (frame.captured_ns - origin_ns) / 1e9,
        "exposure_time": frame.exposure_ms / 1000,
        **{f"position_{axis}": um for axis, um in frame.position_um.items()},
        "frame": frame.frame,
        "number": result.number,
        "refocused": result.refocused,
        **({"pixels": "captured"} if result.pixels is frame.pixels else {}),
        "captured_utc": frame.captured_utc,
        "queued_ms": round(result.queued_ms, 3),
        "engine_ms": round(result.engine_ms, 3),
        "engine": engine.get("name", ""),
        "precision": engine.get("precision", ""),
        "model_sha256": engine.get("sha256", ""),
        **_judged(result),
        **({"processor": result.processor} if result.processor else {}),
        **({"decision": dict(result.decision)} if result.decision else {}),
        **({"source": frame.source} if frame.source else {}),
        "place": place,
        "index": dict(frame.index),
        "channel": frame.channel,
    }


def _judged(result: FrameResult) -> dict[str, Any]:
    """Give focus and trust as on the wire; nothing for a frame that was passed through."""
    from refocus.acquisition.sinks.headers import focus_of, trust_of

    parts = {"focus": focus_of(result.judgement), "trust": trust_of(result.judgement)}
    return {name: part.model_dump() for name, part in parts.items() if part is not None}


def _written(waiting: list[Any]) -> None:
    """Wait for the first write; it counts as waiting until it is done, and raises if it failed."""
    try:
        waiting[0].result()
    finally:
        del waiting[0]
