"""``refocus-live finish``: the refocused frames that a run still owed when it was killed.

A frame is owed if the raw data hold it, the refocused data do not, and the run was to refocus it,
or to hand it on. So it does not matter how the run ended, nor how often this is run.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from useq import MDASequence

from refocus.acquisition.command.disk import RAW, REFOCUSED
from refocus.acquisition.pipeline.frame import NO_PLACE, CapturedFrame, FrameResult
from refocus.acquisition.pipeline.layout import Location, image_events, layout, locate
from refocus.acquisition.pipeline.on_disk import SavedFrames, open_array
from refocus.acquisition.pipeline.queue import Task
from refocus.acquisition.pipeline.raw_data import RawZarr
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.selection import Chooser, Selection
from refocus.acquisition.sinks.frame_lines import FrameLines, lines_path, read_lines
from refocus.acquisition.sinks.recorder import LISTED_GAPS, describe_frame
from refocus.configs import RefocusError, reason_of
from refocus.configs.files import replacing
from refocus.configs.light_path import KnownOptics, LightPath
from refocus.engine.by_channel import open_models
from refocus.engine.protocol import Engine, EngineError
from refocus.engine.refocuser import Refocuser
from refocus.engine.shipped import shipped_models

log = logging.getLogger("refocus.finish")

NO_RUN = "give the folder that --save named"


@dataclass
class Finished:
    """What became of the frames that were owed, and how many raw frames there are in all."""

    raw: int = 0
    left_out: int = 0
    there: int = 0
    refocused: int = 0
    handed_on: int = 0
    failed: int = 0

    @property
    def partners(self) -> int:
        """Raw frames that have their partner now."""
        return self.there + self.refocused + self.handed_on


class SavedRun:
    """A run as its folder tells of it.

    Parameters
    ----------
    folder
        What ``--save`` named.

    Raises
    ------
    RefocusError
        It is no folder of a run, or one that owes nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.raw, self.refocused = folder / RAW, folder / REFOCUSED
        for path in (self.raw, self.refocused, lines_path(self.refocused)):
            if not path.exists():
                raise RefocusError(f"{folder}: not a run that was saved: no {path.name}; {NO_RUN}")
        first = next(read_lines(self.refocused), {})
        try:
            said = first["refocus"]
            self.policy, self.engine = said["policy"], said["engine"]
            self.cameras = int(said["cameras"])
            self.selection = Selection(**said["selection"])
            self.optics = KnownOptics.model_validate(said["optics"])
            sequence = said["sequence"] and MDASequence(**said["sequence"])
            self.info = RunInfo(
                run=said["run"],
                sequence=sequence or None,
                camera=said["camera"],
                engine=said["engine"],
                policy=said["policy"],
                summary_meta={"image_infos": [{"num_camera_adapter_channels": self.cameras}]},
            )
            self.settings = layout(self.info, said["camera"], self.refocused)
        except (KeyError, TypeError, ValueError) as error:
            raise RefocusError(
                f"{lines_path(self.refocused)}: its first line does not describe a run; {NO_RUN}"
            ) from error
        name = [f"--engine {self.engine['model']}"] if self.model else []
        options = " ".join(["NEW.ome.zarr", *name, *self.optics.as_options()])
        anew = f"refocus-live process {self.raw} {options}"
        if self.policy != "every":
            raise RefocusError(
                f"{folder}: the policy of that run was {self.policy}, which owes nothing; "
                f"{anew} refocuses all of it"
            )
        if said.get("processor"):
            raise RefocusError(
                f"{folder}: went through the processor {said['processor']}, too, which is not run "
                f"again; {anew} refocuses all of it"
            )
        if sequence is None and self.selection.channels is not None:
            raise RefocusError(
                f"{folder}: was acquired without a sequence, and nothing tells which channel a "
                f"frame is of; {anew} refocuses all of it"
            )

    @property
    def model(self) -> Path | None:
        """File of the model of the run, where that ships."""
        return shipped_models().get(str(self.engine["model"]))

    def check_model(self, engine: Engine) -> None:
        """Refuse another model than that of the run, by a RefocusError."""
        now, then = engine.info.describe(), self.engine
        if (now["sha256"] or now["model"]) != (then["sha256"] or then["model"]):
            raise RefocusError(
                f"{self.folder}: was refocused by the model {_named(then)}, and this is "
                f"{_named(now)}; give the run's own with --engine"
            )

    def places(self) -> Iterator[tuple[int, Mapping[str, int], str]]:
        """Give the place, the index and the channel of each frame that there may be."""
        if self.info.sequence is None:
            frames = SavedFrames(self.raw / "0", self.settings)
            for place in range(frames.shape[0] * self.cameras):
                yield place, {"t": place // self.cameras}, ""
            return
        place = 0
        for event in image_events(self.info.sequence):
            index = {str(axis): number for axis, number in event.index.items()}
            channel = event.channel.config if event.channel else ""
            for camera in range(self.cameras):
                yield place, {**index, "cam": camera} if self.cameras > 1 else index, channel
                place += 1


def finish(
    run: SavedRun,
    engine: Engine,
    on_frame: Callable[[Finished], None] = lambda done: None,
    *,
    insecure: bool = False,
) -> Finished:
    """Refocus what a run still owes, into its own refocused data.

    Parameters
    ----------
    run
        Which run.
    engine
        Has the model of the run.
    on_frame
        Called after each frame of the raw data.
    insecure
        Send frames to a server on another host without encryption.

    Raises
    ------
    RefocusError
        The model is another one, the run is still going on, or its files cannot be read or written.
    """
    run.check_model(engine)
    try:
        with ExitStack() as stack:
            channels = stack.enter_context(open_models(run.selection.channels, engine, insecure))
            lines = FrameLines(run.refocused, append=True)
            stack.callback(lines.close)
            selection = run.selection
            refocuser = Refocuser(
                engine, channels, selection.region, selection.on_distrust, run.optics
            )
            return _Finishing(run, refocuser, lines).work(on_frame)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RefocusError(
            f"{getattr(error, 'filename', None) or run.folder}: cannot be finished: "
            f"{reason_of(error)}; see that its files can be read and written, and run it again"
        ) from error


class _Finishing:
    """The work of one call."""

    def __init__(self, run: SavedRun, refocuser: Refocuser, lines: FrameLines) -> None:
        self._run, self._refocuser, self._lines = run, refocuser, lines
        self._raw, self._done = RawZarr(run.raw), Finished()
        self._raw.start(run.info)
        self._known = read_lines(run.raw)
        self._next_known: dict[str, Any] = next(self._known, {})
        self._frames: dict[tuple[Path, str], SavedFrames] = {}

    def work(self, on_frame: Callable[[Finished], None]) -> Finished:
        run, done = self._run, self._done
        chooser = Chooser(run.selection, run.info.sequence)
        number = self._lines.keep(self._is_true) - 1  # less the first
        for place, index, channel in run.places():
            at = locate(run.settings, place)
            known = self._known_of(at)
            if not self._holds(run.raw, at):
                continue
            task, _ = chooser.choose(channel, index)
            if task is Task.LEAVE:
                done.left_out += 1
            elif self._holds(run.refocused, at):
                done.there += 1
            else:
                frame = _captured(run, done.raw, place, index, channel, known)
                self._finish_frame(frame, at, task, number)
                number += 1
            done.raw += 1
            on_frame(done)
        note_gaps(run.refocused)
        self._lines.copy_into_zarr()
        if lines_path(run.raw).exists():
            FrameLines(run.raw, append=True).copy_into_zarr()
        return done

    def _is_true(self, line: Mapping[str, Any]) -> bool:
        """Whether a line tells of a frame that is there, or that is left out on purpose."""
        if "left_empty" in line:
            return str(line["left_empty"]).startswith("left out")
        if "storage_index" not in line:
            return True
        return self._of(self._run.refocused, line["group"]).holds(tuple(line["storage_index"]))

    def _finish_frame(self, frame: CapturedFrame, at: Location, task: Task, number: int) -> None:
        pixels = self._raw.read(frame)
        begun = time.perf_counter()
        try:
            if pixels is None:
                raise EngineError("its raw data cannot be read")
            captured = CapturedFrame(**{**vars(frame), "pixels": pixels})
            light_path, bits = LightPath(frame.pixel_size_um), frame.bit_depth
            refocused = task is Task.REFOCUS
            if refocused:
                self._refocuser.warm_up(pixels.shape, pixels.dtype, light_path)
                result = self._refocuser.refocus(
                    pixels, frame.channel, light_path, bits, frame.position, frame.z_um
                )
        except EngineError as error:
            log.warning("frame %s: left out: %s", dict(frame.index), error)
            self._done.failed += 1
            place = None if frame.place == NO_PLACE else frame.place
            known = {"place": place, "frame": frame.frame, "index": dict(frame.index)}
            self._lines.add({**known, "channel": frame.channel, "left_empty": f"failed: {error}"})
            return
        said = FrameResult(
            captured=captured,
            pixels=result.pixels if refocused else pixels,
            refocused=refocused,
            number=number,
            queued_ms=0.0,
            engine_ms=(time.perf_counter() - begun) * 1000 if refocused else 0.0,
            engine=result.engine if refocused else None,
            judgement=result.judgement if refocused else None,
        )
        self._write(at, said.pixels)
        about = describe_frame(said, frame.place or 0, 0)
        self._lines.add({"group": at.group, **about, "storage_index": list(at.index)})
        self._done.refocused += refocused
        self._done.handed_on += not refocused

    def _write(self, at: Location, pixels: Any) -> None:
        array = open_array(self._run.refocused / at.group / "0", write=True)
        reach = [max(n, i + 1) for n, i in zip(array.shape, at.index, strict=False)]
        if reach != list(array.shape[: len(reach)]):
            array = array.resize(exclusive_max=[*reach, *array.shape[-2:]]).result()
        array[at.index].write(pixels).result()

    def _known_of(self, at: Location) -> dict[str, Any]:
        """Give the raw line of a frame; lines are in the order of the sequence, as places are."""
        line = self._next_known
        if (line.get("group"), line.get("storage_index")) != (at.group, list(at.index)):
            return {}
        self._next_known = next(self._known, {})
        return line

    def _holds(self, zarr: Path, at: Location) -> bool:
        return self._of(zarr, at.group).holds(at.index)

    def _of(self, zarr: Path, group: str) -> SavedFrames:
        if (zarr, group) not in self._frames:
            self._frames[zarr, group] = SavedFrames(zarr / group / "0", self._run.settings)
        return self._frames[zarr, group]


def note_gaps(zarr: Path) -> None:
    """Say in a file's own metadata which of its places are empty, and why."""
    gaps = [
        {"frame": line.get("frame"), "index": line.get("index"), "reason": line["left_empty"]}
        for line in read_lines(zarr)
        if "left_empty" in line
    ]
    document = zarr / "zarr.json"
    content = json.loads(document.read_text(encoding="utf-8"))
    about = content.setdefault("attributes", {}).setdefault("refocus", {})
    about["gaps"] = {"count": len(gaps), "listed": gaps[:LISTED_GAPS]}
    with replacing(document, shared=True) as part:
        part.write_text(json.dumps(content), encoding="utf-8")


def _captured(  # noqa: PLR0917
    run: SavedRun,
    number: int,
    place: int,
    index: Mapping[str, int],
    channel: str,
    known: Mapping[str, Any],
) -> CapturedFrame:
    """Describe a frame as far as its raw data do."""
    camera = run.info.camera
    shape = int(camera["height"]), int(camera["width"])
    axes = {axis: known[f"position_{axis}"] for axis in "xyz" if f"position_{axis}" in known}
    return CapturedFrame(
        pixels=np.broadcast_to(np.zeros((), camera["dtype"]), shape),
        frame=number,
        captured_utc=known.get("written_utc", ""),
        captured_ns=int(known.get("delta_t", 0.0) * 1e9),
        index=index,
        channel=channel,
        position_um=axes,
        pixel_size_um=float(camera.get("pixel_size_um") or 0.0),
        exposure_ms=known.get("exposure_time", 0.0) * 1000,
        camera=str(camera.get("label", "")),
        bit_depth=int(camera.get("bit_depth") or 16),
        place=place,
    )


def _named(engine: Mapping[str, Any]) -> str:
    return f"{engine['model']} {engine['sha256'][:12]}".strip()


def count_raw(run: SavedRun) -> int | None:
    """Count the frames that a run planned, for a progress bar; None where nobody knows."""
    from refocus.acquisition.pipeline.plan import count_frames

    sequence = run.info.sequence
    count = count_frames(sequence) if sequence is not None else None
    return count * run.cameras if count is not None else None
