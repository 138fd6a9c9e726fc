"""Frames for readers on the same host, through memory that both sides map.

ZeroMQ carries a note of where a frame lies; the pixels are copied once into the memory and once
out of it. It is for cameras whose frames tcp cannot carry. Writer and readers map a file, in
``/dev/shm`` where there is one, else in the folder for temporary files. (Not
``multiprocessing.shared_memory``: its resource tracker deletes what a *reader* has opened, and
where ``/dev/shm`` is small, as in containers, writing to it is death by SIGBUS.)

Responsibilities
----------------
- ``SharedFrames`` is the writer: a ring of slots, written over and over, that nobody can block.
- ``SharedReader`` copies a frame out, or says that the writer was there first.

On the wire
-----------
A message of the topic ``refocus.shared`` has three parts: the topic, the header of
``refocus.frame``, and in place of the pixels this JSON::

    {"schema": "refocus/1", "file": "/dev/shm/refocus-frames-5e0c71d9ab34", "generation": 246,
     "generation_at": 1216, "pixels_at": 4198400, "raw_at": null}

``generation_at`` is where in the file a little-endian unsigned integer of 64 bits stands, on a
multiple of 64. It is odd while the slot is being written, and different for every frame. A reader
compares it with ``generation``, copies the pixels (raw, little-endian, C order, shape and dtype as
in the header; ``raw_at`` is where the captured ones are, if they are sent), and compares again:
unless it was equal both times the frame was overwritten, and is lost like any message that is
missing from the numbers. A file is only ever replaced by another, of another name.

A reader that has mapped the file subscribes to ``refocus.mapped.`` followed by its name, which
nothing is sent under: before the publisher deletes the file it waits, for the seconds of its
linger at most, until its readers have.
"""

import errno
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refocus.configs import RefocusError, first_fault
from refocus.stream.shared_file import (
    PAGE,
    Bytes,
    SharedFile,
    default_folders,
    map_for_reading,
    remove_stale,
)

Frame = NDArray[np.generic]

SHARED, MAPPED = b"refocus.shared", b"refocus.mapped."

LINE = 64  # bytes between generations, so that no two share a line of any processor's cache
RING_BYTES = 256 << 20
MOST_SLOTS, FEWEST_SLOTS = 64, 4


def has_memory() -> bool:
    """Tell whether files can be made in memory here, rather than on a disk."""
    return len(default_folders()) > 1


class SharedPixels(BaseModel):
    """Where a frame lies; all positions in bytes from the start of the file."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_: Literal["refocus/1"] = Field(default="refocus/1", alias="schema")
    file: str = Field(max_length=4096)
    """Path of the file on this host."""
    generation: int = Field(ge=0)
    """What stands at ``generation_at`` for as long as this frame is there."""
    generation_at: int = Field(ge=LINE, multiple_of=LINE)
    pixels_at: int = Field(ge=PAGE, multiple_of=LINE)
    raw_at: int | None = Field(default=None, ge=PAGE, multiple_of=LINE)
    """Where the captured pixels are, if they are sent."""

    def encode(self) -> bytes:
        """Give the JSON that travels."""
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the JSON that arrived.

        Raises
        ------
        RefocusError
            It is not of schema ``refocus/1``.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            where, said = first_fault(error)
            raise RefocusError(
                f"message: {where or 'note'} of SharedPixels: {said}; "
                "the publisher does not keep to schema refocus/1"
            ) from None


class SharedFrames:
    """The writer's side: a ring of slots in a file of its own. For one thread at a time.

    Parameters
    ----------
    frame_bytes
        What one frame takes, raw pixels included; 0 where that is not known before the first.
        A larger frame moves the ring to a new, larger file.
    slots
        Frames in the ring, instead of as many as fit 256 MB, but 4 to 64. A reader that is
        further behind than that loses frames.
    folders
        Where the file may be; the first with room is taken.

    Raises
    ------
    RefocusError
        No folder has room for four frames.
    """

    def __init__(
        self,
        frame_bytes: int = 0,
        *,
        slots: int | None = None,
        folders: Sequence[Path] | None = None,
    ) -> None:
        self._slots_wanted = slots
        self._folders = default_folders() if folders is None else tuple(folders)
        self._written = 0
        self._ring: _Ring | None = None
        for folder in self._folders:
            remove_stale(folder)
        if frame_bytes:
            self._ring = self._new_ring(frame_bytes)

    @property
    def file(self) -> Path | None:
        """The file frames are written to at present; None before the first, and once closed."""
        return self._ring.file.path if self._ring else None

    @property
    def slots(self) -> int:
        """How many frames the ring holds."""
        return self._ring.slots if self._ring else 0

    @property
    def held(self) -> int:
        """How many slots are held by who sends on what lies there."""
        return int(np.count_nonzero(self._ring.holds)) if self._ring else 0

    def fits(self, size: int) -> bool:
        """Tell whether a frame of so many bytes finds room in the file that is there."""
        return self._ring is not None and size <= self._ring.slot_bytes

    def release(self) -> None:
        """Take every slot for free, because who held some has ended."""
        if self._ring is not None:
            self._ring.holds[:] = 0

    def write(self, pixels: Frame, raw: Frame | None = None) -> SharedPixels | None:
        """Copy a frame into the next slot. Never waits for a reader.

        Parameters
        ----------
        pixels, raw
            ``(H, W)``, C-ordered, little-endian.

        Returns
        -------
        SharedPixels or None
            What readers must be told; None while every slot is held.

        Raises
        ------
        RefocusError
            The frame is larger than those before, and there is no room for it.
        """
        raw_from = _round_up(pixels.nbytes, LINE)
        size = raw_from + (raw.nbytes if raw is not None else 0)
        if self._ring is None or size > self._ring.slot_bytes:
            larger = self._new_ring(size)
            self.close()
            self._ring = larger
        ring = self._ring
        for _ in range(ring.slots):
            slot = self._written % ring.slots
            self._written += 1
            generation = 2 * self._written
            ring.generations[slot] = generation - 1
            _fence()  # whoever holds a slot looks at its generation after that
            if ring.holds[slot] == 0:
                break
        else:
            return None
        start = ring.slots_at + slot * ring.slot_bytes
        _copy(pixels, ring.file.content[start : start + pixels.nbytes])
        if raw is not None:
            _copy(raw, ring.file.content[start + raw_from : start + raw_from + raw.nbytes])
        _fence()
        ring.generations[slot] = generation
        return SharedPixels(
            file=str(ring.file.path),
            generation=generation,
            generation_at=LINE * (1 + slot),
            pixels_at=start,
            raw_at=None if raw is None else start + raw_from,
        )

    def close(self) -> None:
        """Delete the file; readers keep what they have mapped. May be called twice."""
        if self._ring is not None:
            self._ring.file.close()
            self._ring = None

    def _new_ring(self, frame_bytes: int) -> "_Ring":
        slot_bytes = _round_up(frame_bytes, PAGE)
        wanted = self._slots_wanted or min(MOST_SLOTS, max(FEWEST_SLOTS, RING_BYTES // slot_bytes))
        fewest = min(wanted, FEWEST_SLOTS)
        for folder in self._folders:
            try:
                room = int(0.9 * shutil.disk_usage(folder).free) // slot_bytes
                if room >= fewest:
                    return _Ring(folder, slot_bytes, min(wanted, room))
            except OSError:
                continue
        places = " and ".join(map(str, self._folders)) or "no folder"
        raise RefocusError(
            f"shared memory: no room for {fewest} frames of {frame_bytes / 1e6:.1f} MB in "
            f"{places}; make room there, or publish without shared memory"
        )


class SharedReader:
    """A reader's side: it keeps the newest file mapped, and can neither block nor delete.

    Attributes
    ----------
    file
        The file mapped at present, or ``""``.
    """

    def __init__(self) -> None:
        self.file = ""
        self._content: Bytes | None = None

    def read(
        self, place: SharedPixels, shape: tuple[int, int], dtype: "np.dtype[Any]"
    ) -> tuple[Frame, ...] | None:
        """Copy a frame out.

        Parameters
        ----------
        place
            What the writer said of it.
        shape, dtype
            Of its images, as the header says.

        Returns
        -------
        tuple of Frame or None
            The refocused pixels, and the captured ones if they are there, each ``(H, W)`` and
            the caller's alone. None if the writer has overwritten them, or deleted the file.

        Raises
        ------
        RefocusError
            The file is not on this host, or not one of ours.
        """
        content = self._map(place.file)
        if content is None:
            return None
        starts = [place.pixels_at, *([] if place.raw_at is None else [place.raw_at])]
        size = dtype.itemsize * shape[0] * shape[1]
        if max(*starts, place.generation_at) + size > content.size:
            raise RefocusError(
                f"shared memory {place.file}: a frame is said to lie beyond its end; "
                "the publisher does not keep to schema refocus/1"
            )
        generation = content[place.generation_at : place.generation_at + 8].view("<u8")
        if int(generation[0]) != place.generation:
            return None
        _fence()
        images = tuple(np.empty(shape, dtype) for _ in starts)
        for image, start in zip(images, starts, strict=True):
            np.copyto(image, content[start : start + size].view(dtype).reshape(shape))
        _fence()
        return images if int(generation[0]) == place.generation else None

    def close(self) -> None:
        """Let go of the memory. May be called twice."""
        self._content = None
        self.file = ""

    def _map(self, file: str) -> Bytes | None:
        if file == self.file:
            return self._content
        try:
            content = map_for_reading(file)
        except OSError as error:
            if self.file and error.errno == errno.ENOENT:
                return None  # a publisher that has moved on, or ended, has deleted it
            raise RefocusError(
                f"shared memory {file}: cannot be opened ({os.strerror(error.errno or 0)}); the "
                "publisher has ended, or is another user's or another host's: subscribe without "
                "shared memory"
            ) from None
        self._content, self.file = content, file
        return content


class _Ring:
    """How a file is divided: a line of cache for each slot's generation, then the slots."""

    def __init__(self, folder: Path, slot_bytes: int, slots: int) -> None:
        self.slot_bytes = slot_bytes
        self.slots = slots
        self.slots_at = _round_up(LINE * (1 + slots), PAGE)
        self.file = SharedFile(folder, self.slots_at + slots * slot_bytes)
        lines = self.file.content[LINE : LINE * (1 + slots)].view("<u8")
        self.generations, self.holds = lines.reshape(slots, LINE // 8).T[:2]


def _copy(image: Frame, place: Bytes) -> None:
    np.copyto(place.view(image.dtype).reshape(image.shape), image)  # releases the GIL


_LOCK = threading.Lock()


def _fence() -> None:
    """Keep what was read and written before it before what is read and written after it.

    Some processors (not x86) would reorder them. What precedes a lock's return is done before the
    next is taken, so two rounds keep both sides apart.
    """
    with _LOCK:
        pass
    with _LOCK:
        pass


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
