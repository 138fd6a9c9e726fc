"""What an OME-Zarr really holds, against what was handed to it, by position and channel.

A frame counts that can be read: the metadata are there, the array has the size of its layout, and
the frame's chunks are files of the size they must have. Of each array one frame is decoded. What is
looked at is what there is, so that it costs microseconds a frame and no memory.
"""

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from ome_writers import AcquisitionSettings
from useq import MDASequence

from refocus.acquisition.pipeline.layout import array_group, image_events
from refocus.acquisition.pipeline.plan import (
    MOST_EVENTS,
    Short,
    Where,
    first_of,
    is_planned,
    position_name,
)
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.configs import RefocusError, reason_of

METADATA = "zarr.json"
DAMAGES = 20
"""Damaged arrays that are named; all are counted."""


@dataclass(frozen=True)
class Saved:
    """What a file holds of what was handed to it.

    Attributes
    ----------
    path
        The OME-Zarr.
    sequence
        By which positions are named; None where there is none.
    handed
        Frames that it was to hold, by position and channel.
    on_disk
        Frames that it does hold.
    planned
        Frames that the sequence has; None where nobody knows, or it is not compared with.
    damaged
        Arrays that cannot be read, each with the reason.
    """

    path: Path
    sequence: MDASequence | None
    handed: Mapping[Where, int]
    on_disk: Mapping[Where, int]
    planned: Mapping[Where, int] | None = None
    damaged: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """How many frames were handed over and are not there."""
        return sum(max(0, n - self.on_disk.get(at, 0)) for at, n in self.handed.items())

    def report(self, word: str) -> dict[str, Any]:
        """Give the part of ``report.json``; ``word`` says what was done with the frames."""
        short = [
            {
                "position": position_name(self.sequence, where[0]),
                "channel": where[1],
                **({"planned": self.planned.get(where, 0)} if self.planned else {}),
                word: count,
                "on_disk": self.on_disk.get(where, 0),
            }
            for where, count in self.handed.items()
            if self.on_disk.get(where, 0) < count
        ]
        planned = {"planned": sum(self.planned.values())} if self.planned else {}
        return {
            **planned,
            word: sum(self.handed.values()),
            "on_disk": sum(self.on_disk.values()),
            "missing": self.missing,
            "short": short,
            "damaged": list(self.damaged),
        }


@dataclass
class Look:
    """Frames found so far, and arrays that cannot be read."""

    found: Counter[Where] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)

    def damage(self, text: str) -> None:
        """Note an array that cannot be read."""
        if len(self.damaged) < DAMAGES:
            self.damaged.append(text)


def look(
    run: RunInfo,
    settings: AcquisitionSettings | None,
    path: Path,
    handed: Mapping[Where, int],
    planned: Mapping[Where, int] | None = None,
) -> Saved | None:
    """Read again what a run has saved.

    Parameters
    ----------
    run
        The run.
    settings
        Its :func:`~refocus.acquisition.pipeline.layout.layout`; None where nothing was laid out.
    path
        The OME-Zarr.
    handed
        Frames that it is to hold, by position and channel.
    planned
        Frames that the sequence has.

    Returns
    -------
    Saved or None
        Where the frames of a sequence are not known by position and channel, neither are those
        of ``handed``: all are counted together. None where several frames share a chunk.
    """
    sequence = run.sequence if run.sequence is not None and is_planned(run.sequence) else None
    seen = Look()
    whole = _Positions(sequence, settings) if settings is not None else None
    if whole is None or not (path / METADATA).is_file():
        seen.damage(f"{path.name}: is gone" if not path.exists() else f"{path.name}: no {METADATA}")
    else:
        try:
            for number in range(len(whole.settings.positions)):
                _look_at(path, number, whole, seen)
        except _SharedChunksError:
            return None
    if whole is None or not whole.known:
        handed = {(0, ""): sum(handed.values())} if handed else {}
        seen.found = Counter({(0, ""): sum(seen.found.values())})
        planned = {(0, ""): sum(planned.values())} if planned else None
    return Saved(path, sequence, dict(handed), dict(seen.found), planned, tuple(seen.damaged))


def not_on_disk(saved: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say of each file in one line what it lacks; nothing of those that are whole.

    Parameters
    ----------
    saved
        :meth:`Saved.report` of the ``raw`` and the ``refocused`` file.
    """
    told = []
    for name, file in saved.items():
        word = "received" if name == "raw" else "published"
        short = first_of(
            [Short(s["position"], s["channel"], s[word], s["on_disk"]) for s in file["short"]]
        )
        what = [*file["damaged"][:1]]
        if file["missing"]:
            what[:0] = [
                f"{file['missing']} of {file[word]} {name} frames that were {word} cannot be read "
                f"from the disk ({short})"
            ]
        if what:
            told.append(f"{': '.join(what)}; see what removes or damages files there")
    return told


def gone(path: Path, settings: AcquisitionSettings) -> str:
    """Say which part of a file that is being written is not there any more; empty if all is.

    Raises
    ------
    RefocusError
        It cannot be looked at now, which says nothing of what is there.
    """
    documents = [path / METADATA]
    for number in range(len(settings.positions)):
        group = path / array_group(settings, number)
        documents += [group / METADATA, group / "0" / METADATA]
    for document in documents:
        try:
            there = stat.S_ISREG(document.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            there = False
        except OSError as error:
            raise RefocusError(
                f"{document}: cannot be looked at: {reason_of(error)}; see that the folder can be "
                "read, and that its disk or server answers"
            ) from error
        if not there:
            return f"{document}: is gone: something removes what this run saves; see what it is"
    return ""


class _Positions:
    """Says of which position and channel the frame is that lies at an index of an array."""

    def __init__(self, sequence: MDASequence | None, settings: AcquisitionSettings) -> None:
        self.settings = settings
        dimensions = settings.array_storage_dimensions
        names = [dimension.name for dimension in dimensions]
        self._channel_axis = names.index("c") if "c" in names else None
        channels = dimensions[self._channel_axis].coords if self._channel_axis is not None else ()
        self._channels = [str(getattr(coordinate, "name", "")) for coordinate in channels or ()]
        self._of_places: list[Where] | None = None
        self._numbers: list[int] = []
        self.known = sequence is not None
        if sequence is None:
            return
        if any(dimension.count is None for dimension in dimensions):  # a ragged sequence
            places = islice(image_events(sequence), MOST_EVENTS)
            self._of_places = [
                (e.index.get("p", 0), e.channel.config if e.channel else "") for e in places
            ]
            return
        alike = {"time_plan": None, "z_plan": None, "channels": (), "autofocus_plan": None}
        at_once = image_events(sequence.model_copy(update=alike))
        self._numbers = [e.index.get("p", 0) for e in at_once] or [0]
        self.known = len(self._numbers) == len(settings.positions)

    def of(self, number: int, index: tuple[int, ...]) -> Where:
        """Give the number of the position and the name of the channel."""
        if not self.known:
            return 0, ""
        if self._of_places is not None:
            place = index[0]
            return self._of_places[place] if place < len(self._of_places) else (0, "")
        channel = (
            self._channels[index[self._channel_axis]] if self._channel_axis is not None else ""
        )
        return self._numbers[number], channel


def _look_at(path: Path, number: int, positions: _Positions, seen: Look) -> None:
    """Count the frames of one array."""
    group = array_group(positions.settings, number)
    folder, named = path / group / "0", f"{path.name}/{group}/0".replace("/./", "/")
    try:
        frames = SavedFrames(folder, positions.settings)
        if not (path / group / METADATA).is_file():
            raise ValueError(f"no {METADATA} of its image")
        latest: tuple[int, ...] | None = None
        for index in frames.indices():
            where = positions.of(number, index)
            seen.found[where] += 1
            latest = index
        if latest is not None and not frames.can_be_read(latest):
            seen.found[positions.of(number, latest)] -= 1
            raise ValueError(f"frame {latest} cannot be decoded")
    except (OSError, ValueError, LookupError, TypeError) as error:
        seen.damage(f"{named}: {reason_of(error)}")


def open_array(folder: Path, write: bool = False) -> Any:
    """Open an array with tensorstore: frames that are black are written, too."""
    import tensorstore

    file = {"driver": "file", "path": str(folder.resolve())}
    spec = {"driver": "zarr3", "kvstore": file, "store_data_equal_to_fill_value": True}
    return tensorstore.open(spec, open=True, read=True, write=write).result()


class _SharedChunksError(Exception):
    """Files do not tell which frames there are."""


class SavedFrames:
    """The frames of one array of an OME-Zarr, as files.

    Parameters
    ----------
    folder
        Of the array.
    settings
        How it was laid out.

    Raises
    ------
    OSError, ValueError, LookupError
        Its metadata are not there, or not those of the layout.
    """

    def __init__(self, folder: Path, settings: AcquisitionSettings) -> None:
        self.folder = folder
        about = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        self.shape = tuple(about["shape"])
        planned = [dimension.count for dimension in settings.array_storage_dimensions]
        fits = len(planned) == len(self.shape) and all(
            n is None or n == found for n, found in zip(planned, self.shape, strict=False)
        )
        if not fits or about["data_type"] != str(np.dtype(settings.dtype)):
            raise ValueError(
                f"is {'×'.join(map(str, self.shape))} {about['data_type']}, and was laid out as "
                f"{'×'.join(str(n or 'any') for n in planned)} {settings.dtype}"
            )
        chunk = about["chunk_grid"]["configuration"]["chunk_shape"]
        codecs = [codec["name"] for codec in about["codecs"]]
        if prod(chunk[:-2]) != 1 or "sharding_indexed" in codecs:
            raise _SharedChunksError
        self._chunks = [
            f"{y}/{x}"
            for y, x in product(
                *(range(-(-n // c)) for n, c in zip(self.shape[-2:], chunk[-2:], strict=True))
            )
        ]
        plain = codecs == ["bytes"]
        self._bytes = prod(chunk) * np.dtype(about["data_type"]).itemsize if plain else 0

    def indices(self) -> Iterator[tuple[int, ...]]:
        """Give the index of each frame that is there, in no order."""
        yield from self._below(f"{self.folder}/c", len(self.shape) - 2, ())

    def holds(self, index: tuple[int, ...]) -> bool:
        """Whether all chunks of a frame are there, of the size that they must have."""
        return self._whole("/".join((f"{self.folder}/c", *map(str, index))))

    def can_be_read(self, index: tuple[int, ...]) -> bool:
        """Whether a frame can be decoded."""
        try:
            open_array(self.folder)[index].read().result()
        except (ValueError, OSError):
            return False
        return True

    def _below(self, folder: str, depth: int, index: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if depth == 0:
            if self._whole(folder):
                yield index
            return
        length = self.shape[len(index)]
        try:
            entries = os.scandir(folder)
        except FileNotFoundError:
            return
        with entries:
            for entry in entries:
                if entry.name.isdigit() and int(entry.name) < length:
                    yield from self._below(entry.path, depth - 1, (*index, int(entry.name)))

    def _whole(self, folder: str) -> bool:
        try:
            sizes = [os.stat(f"{folder}/{chunk}").st_size for chunk in self._chunks]
        except (FileNotFoundError, NotADirectoryError):
            return False
        return all(size == self._bytes if self._bytes else size > 0 for size in sizes)
