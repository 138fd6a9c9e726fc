"""Where each frame of a run lies in its OME-Zarr.

The acquisition lays out its raw data from the sequence. The same layout, made from the same
description, serves to write the refocused frames beside them and to read the raw ones back.

What a frame's place is follows from its useq index and not from a count of arrivals: frames that
the camera lost never arrive, yet have their place in the raw data.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ome_writers import (
    AcquisitionSettings,
    Dimension,
    OmeZarrFormat,
    useq_to_acquisition_settings,
)
from useq import AcquireImage, MDAEvent, MDASequence

from refocus.acquisition.pipeline.frame import NO_PLACE, CapturedFrame
from refocus.acquisition.pipeline.plan import is_planned
from refocus.acquisition.pipeline.sink import RunInfo

LOOK_AHEAD = 100_000
"""How many places on a frame is looked for; a sequence may have no end."""


class Places:
    """Gives a frame's place in the order of acquisition, from its useq index.

    The sequence is walked in step with the frames, so that a long one takes no memory.
    """

    def __init__(self, run: RunInfo) -> None:
        self._cameras = cameras(run)
        planned = run.sequence is not None and is_planned(run.sequence)
        self._events = image_events(run.sequence) if planned and run.sequence else None
        self._seen: dict[tuple[tuple[str, int], ...], int] = {}
        self._count = 0
        self._latest: tuple[object, int] | None = None

    def of(self, frame: CapturedFrame) -> int:
        """Place of a frame, from 0, or ``NO_PLACE``; asked once per frame, unless it knows it."""
        if frame.place is not None:
            return frame.place
        if self._events is None:
            return frame.frame
        camera = int(frame.index.get("cam", 0))
        key = _key(frame.index)
        if (key, camera) == self._latest:
            return NO_PLACE
        self._latest = (key, camera)
        until = self._count + LOOK_AHEAD
        while key not in self._seen:
            if self._count >= until or (event := next(self._events, None)) is None:
                return NO_PLACE
            self._seen[_key(event.index)] = self._count
            self._count += 1
        last = camera == self._cameras - 1
        place = self._seen.pop(key) if last else self._seen[key]
        return place * self._cameras + camera


@dataclass(frozen=True)
class Location:
    """Which array of an OME-Zarr a frame is in, by number and by group, and its index there."""

    position: int
    group: str
    index: tuple[int, ...]


def locate(settings: AcquisitionSettings, place: int) -> Location:
    """Say where the frame of a place is stored."""
    sizes = [dimension.count or 1 for dimension in settings.dimensions[:-2]]
    indices: list[int] = []
    for axis in range(len(sizes)):
        inner = prod(sizes[axis + 1 :])
        indices.append(place // inner if axis == 0 else place // inner % sizes[axis])
    position = 0
    if (axis_of_positions := settings.position_dimension_index) is not None:
        position = indices.pop(axis_of_positions)
    if (order := settings.storage_index_permutation) is not None:
        indices = [indices[axis] for axis in order]
    return Location(position, array_group(settings, position), tuple(indices))


def array_group(settings: AcquisitionSettings, position: int) -> str:
    """Name the group of a position; a full stop where there is but one."""
    positions = settings.positions
    here = positions[position]
    if settings.plate is not None:
        return f"{here.plate_row}/{here.plate_column}/{here.name}"
    if len(positions) == 1:
        return "."
    if here.grid_row is not None and here.grid_column is not None:
        return f"{here.name}_{here.grid_row}_{here.grid_column}"
    return here.name


def layout(
    run: RunInfo, camera: Mapping[str, Any], path: Path, overwrite: bool = False
) -> AcquisitionSettings:
    """Lay a file out as the acquisition lays out its own, from the same description."""
    width, height = int(camera["width"]), int(camera["height"])
    pixel_size_um = float(camera.get("pixel_size_um") or 0.0) or None
    found: Mapping[str, Any] | None = None
    if run.sequence is not None and is_planned(run.sequence):
        # a ragged sequence has no regular array: it gets one axis, as in the raw data
        with suppress(NotImplementedError):
            found = useq_to_acquisition_settings(
                run.sequence,
                image_width=width,
                image_height=height,
                pixel_size_um=pixel_size_um,
            )
    if found is None:

        def side(name: str, pixels: int) -> Dimension:
            return Dimension(
                name=name, count=pixels, chunk_size=pixels, scale=pixel_size_um, unit="micrometer"
            )

        found = {
            "dimensions": [
                Dimension(name="t", count=None, chunk_size=1, type="time"),
                side("y", height),
                side("x", width),
            ],
            "plate": None,
        }
    dimensions = list(found["dimensions"])
    if (count := cameras(run)) > 1:
        dimensions.insert(-2, Dimension(name="cam", count=count, type="other"))
    return AcquisitionSettings(
        root_path=str(path),
        format=OmeZarrFormat(),
        dtype=str(camera["dtype"]),
        overwrite=overwrite,
        **{**found, "dimensions": dimensions},
    )


def cameras(run: RunInfo) -> int:
    """Count the cameras that give a frame each per event."""
    infos: Any = (run.summary_meta or {}).get("image_infos") or ({},)
    return int(infos[0].get("num_camera_adapter_channels", 1))


def _key(index: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((str(axis), int(n)) for axis, n in index.items() if axis != "cam"))


def image_events(sequence: MDASequence) -> Iterator[MDAEvent]:
    """Walk the events of a sequence that take a frame, in order of acquisition."""
    # a copy: an autofocus plan remembers where it was, and would not focus there again
    for event in sequence.model_copy(deep=True):
        if event.action is None or isinstance(event.action, AcquireImage):
            yield event
