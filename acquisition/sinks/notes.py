"""Notes of where a frame lies, and the frame in their place, for the reader.

A large frame that went through two more sockets would be copied four times more. So a publisher
writes it once, into memory that the relay maps, too, and sends a note of where it lies. The relay
reads the publisher's side of the conversation, which is ZMTP 3 (https://rfc.zeromq.org/spec/23),
and where there is a note it sends the frame, straight from that memory. For the reader there is no
difference; of one that is encrypted nothing can be read, and no note is sent.

What is being sent is held: while the number beside its generation is not 0, the publisher writes
elsewhere (:class:`refocus.stream.shared_memory.SharedFrames`). Like the relay, this needs the
standard library alone.
"""

import mmap
import os
import struct
import threading
from collections import deque
from contextlib import suppress

FRAME = b"refocus.frame"
NOTED = FRAME + b"\0"
"""The topic of notes: whoever is sent frames is sent these."""
NOTE = struct.Struct("<5Q")
"""The frame's generation, where that stands, where the pixels lie, their bytes, and where the
captured ones lie, or 0; the path of the file follows."""
GREETING_BYTES = 64
"""What ZMTP 3 begins with."""
MORE, LONG, COMMAND = 1, 2, 4
FILES = 2
"""That stay mapped: one, and the one before it, of which a slow reader may still be told."""

EMPTY = memoryview(b"")


class Held:
    """A frame that is not written over before it is released.

    Attributes
    ----------
    images
        Its pixels, and the captured ones if they are sent, in the memory where they lie.
    """

    def __init__(self, words: memoryview, number: int, images: list[memoryview]) -> None:
        self._words, self._number = words, number
        self.images = images

    def release(self) -> None:
        """Let it be written over."""
        self._words[self._number] -= 1


class Memory:
    """The files in which a publisher's frames lie. For one thread, which alone holds frames."""

    def __init__(self) -> None:
        self._mapped: dict[bytes, memoryview] = {}

    def hold(self, note: bytes) -> Held | None:
        """Hold the frame that a note tells of; None if it was written over, or is gone."""
        generation, generation_at, pixels_at, size, raw_at = NOTE.unpack_from(note)
        content = self._map(note[NOTE.size :])
        if content is None:
            return None
        words, line = content.cast("Q"), generation_at // 8
        words[line + 1] += 1
        fence()  # held first, looked at then: the publisher does it the other way round
        if words[line] != generation:
            words[line + 1] -= 1
            return None
        starts = [pixels_at, raw_at] if raw_at else [pixels_at]
        return Held(words, line + 1, [content[start : start + size] for start in starts])

    def _map(self, file: bytes) -> memoryview | None:
        if file not in self._mapped:
            with suppress(OSError, ValueError):  # deleted: the publisher has moved on
                descriptor = os.open(file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
                try:
                    self._mapped[file] = memoryview(mmap.mmap(descriptor, 0))
                finally:
                    os.close(descriptor)
            if len(self._mapped) > FILES:
                del self._mapped[next(iter(self._mapped))]
        return self._mapped.get(file)


class Stream:
    """What one reader is sent: the publisher's bytes, with frames in the place of notes.

    Parameters
    ----------
    memory
        Where the frames lie; None where everything is passed on as it is.
    """

    def __init__(self, memory: Memory | None) -> None:
        self._memory = memory
        self._passing = GREETING_BYTES  # of what comes next, so many bytes go on as they are
        self._amid = False  # the next part is not the first of its message
        self._came = EMPTY
        self._ready: deque[memoryview] = deque()
        self._held: Held | None = None

    def add(self, content: memoryview) -> None:
        """Take what the publisher has said; its memory may be used again after :meth:`keep`."""
        self._came = memoryview(bytes(self._came) + bytes(content)) if self._came else content

    def keep(self) -> None:
        """Copy what has come and could not be sent yet."""
        self._came = memoryview(bytes(self._came))

    def piece(self) -> memoryview:
        """Give what is to be sent next; empty if more must come first."""
        while not self._ready:
            self.release()
            if self._memory is None:
                return self._came
            self._passing = self._passing or self._as_it_is()
            if self._passing or not self._expand(self._memory):
                return self._came[: self._passing]
        return self._ready[0]

    def sent(self, count: int) -> None:
        """Note how much of the piece was sent."""
        if not self._ready:
            self._came = self._came[count:]
            self._passing = max(0, self._passing - count)
        elif rest := self._ready.popleft()[count:]:
            self._ready.appendleft(rest)

    def release(self) -> None:
        """Let go of the frame that was being sent. May be called twice."""
        if self._held is not None:
            self._held.release()
            self._held = None

    def _as_it_is(self) -> int:
        """Count the bytes before the next note, whether all of them have come or not."""
        at = 0
        while at < len(self._came) and (part := _part(self._came, at)) is not None:
            flags, start, end = part
            if not flags & COMMAND:
                if not self._amid and _may_be_noted(self._came, start, end):
                    break
                self._amid = bool(flags & MORE)
            at = end
        return at

    def _expand(self, memory: Memory) -> bool:
        """Make ready what a note tells of; False if not all of its message has come."""
        at, more, parts = 0, True, []
        while more:
            part = _part(self._came, at)
            if part is None or part[2] > len(self._came):
                self._ready.clear()
                return False
            flags, start, end = part
            if flags & COMMAND:  # these come between parts, too
                self._ready.append(memoryview(bytes(self._came[at:end])))
            else:
                parts.append(bytes(self._came[start:end]))
                more = bool(flags & MORE)
            at = end
        self._came = self._came[at:]
        _, header, note = parts
        self._held = memory.hold(note)
        images = [] if self._held is None else self._held.images
        before = _head(len(FRAME), MORE) + FRAME + _head(len(header), MORE) + header
        for left, image in zip(reversed(range(len(images))), images, strict=True):
            before += _head(len(image), MORE if left else 0)
            self._ready += [memoryview(before), image]
            before = b""
        return True


def _part(content: memoryview, at: int) -> tuple[int, int, int] | None:
    """Read the flags of a part, and where its body starts and ends; None if too little is there."""
    flags = content[at] if at < len(content) else 0
    start = at + (9 if flags & LONG else 2)
    if start > len(content):
        return None
    return flags, start, start + int.from_bytes(content[at + 1 : start], "big")


def _may_be_noted(content: memoryview, start: int, end: int) -> bool:
    return end - start == len(NOTED) and NOTED.startswith(content[start:end])


def _head(size: int, flags: int) -> bytes:
    """Give what stands before the body of a part."""
    if size < 256:
        return bytes([flags, size])
    return bytes([flags | LONG]) + size.to_bytes(8, "big")


_LOCK = threading.Lock()


def fence() -> None:
    """Keep what was read and written before it before what is read and written after it.

    Some processors (not x86) would reorder them. What precedes a lock's return is done before the
    next is taken, so two rounds keep both sides apart.
    """
    with _LOCK:
        pass
    with _LOCK:
        pass
