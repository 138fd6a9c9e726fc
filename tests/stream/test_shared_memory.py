import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from refocus.acquisition.hook import attach
from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks.publisher import Publisher
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.stream import shared_memory as sharedmemory
from refocus.stream.shared_file import MAGIC, PREFIX, default_folders, remove_stale
from refocus.stream.shared_memory import SharedFrames, SharedPixels, SharedReader
from refocus.stream.subscriber import subscribe

SHAPE, U16 = (24, 40), np.dtype("<u2")


def image(number, shape=SHAPE, dtype=np.uint16):
    return np.random.default_rng(number).integers(0, 250, shape).astype(dtype)


@pytest.fixture
def folder(tmp_path):
    """Give a folder that must be empty of files of frames in the end."""
    yield tmp_path
    assert list(tmp_path.glob(PREFIX + "*")) == []


@pytest.fixture
def frames(folder):
    frames = SharedFrames(image(0).nbytes, slots=4, folders=[folder])
    yield frames
    frames.close()
    frames.close()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_frames_come_out_as_they_went_in(frames, dtype):
    reader = SharedReader()
    for number in range(9):
        place = SharedPixels.decode(frames.write(image(number, dtype=dtype)).encode())
        (pixels,) = reader.read(place, SHAPE, np.dtype(dtype))
        np.testing.assert_array_equal(pixels, image(number, dtype=dtype))
        assert pixels.dtype == dtype
        assert pixels.flags.owndata
    assert reader.file == str(frames.file)


def test_captured_pixels_go_along(folder):
    frames = SharedFrames(folders=[folder])
    assert (frames.file, frames.slots) == (None, 0)
    place = frames.write(image(1, (5, 7)), image(2, (5, 7)))
    pixels, raw = SharedReader().read(place, (5, 7), U16)
    np.testing.assert_array_equal(pixels, image(1, (5, 7)))
    np.testing.assert_array_equal(raw, image(2, (5, 7)))
    frames.close()


def test_a_frame_that_was_overwritten_is_not_given_out(frames):
    places = [frames.write(image(number)) for number in range(6)]
    reader = SharedReader()
    read = [reader.read(place, SHAPE, U16) for place in places]
    assert [images is None for images in read] == [True, True, False, False, False, False]
    np.testing.assert_array_equal(read[2][0], image(2))


def test_a_frame_that_is_being_overwritten_is_not_given_out(frames):
    place = frames.write(image(0))
    assert SharedReader().read(place, SHAPE, U16) is not None
    with Path(place.file).open("r+b") as file:  # as the writer does, before it writes the pixels
        file.seek(place.generation_at)
        file.write((place.generation + 7).to_bytes(8, "little"))
    assert SharedReader().read(place, SHAPE, U16) is None


def test_a_larger_frame_moves_to_a_larger_file(frames):
    reader = SharedReader()
    small = frames.write(image(0))
    assert reader.read(small, SHAPE, U16) is not None
    first = frames.file
    big = frames.write(image(1, (400, 300)))
    assert not first.exists()
    again = reader.read(small, SHAPE, U16)  # it is mapped: what was in it is still there
    np.testing.assert_array_equal(again[0], image(0))
    np.testing.assert_array_equal(reader.read(big, (400, 300), U16)[0], image(1, (400, 300)))
    assert reader.read(small, SHAPE, U16) is None  # and gone once the reader has moved on


def test_readers_never_see_a_torn_frame(folder):
    """A writer that floods, and a reader too slow for it: every frame read is one frame."""
    frames = SharedFrames(slots=2, folders=[folder])
    shape, newest, done = (256, 256), [], threading.Event()
    newest.append(frames.write(np.zeros(shape, np.uint16)))

    def flood():
        for number in range(1, 3000):
            newest[0] = frames.write(np.full(shape, number, np.uint16))
        done.set()

    writer = threading.Thread(target=flood)
    writer.start()
    reader, whole = SharedReader(), 0
    while not done.is_set():
        images = reader.read(newest[0], shape, U16)
        if images is not None:
            assert images[0].min() == images[0].max()
            whole += 1
    writer.join()
    assert whole > 0
    frames.close()


def test_places_that_are_no_frames_are_refused_in_one_line(frames, tmp_path):
    place = frames.write(image(0))
    (tmp_path / "other").write_bytes(MAGIC * 1000)
    (tmp_path / (PREFIX + "short")).touch()
    (tmp_path / (PREFIX + "else")).write_bytes(b"x" * 10_000)
    cases = [
        ({"file": str(tmp_path / "other")}, "no file of frames"),
        ({"file": str(tmp_path / (PREFIX + "short"))}, "no file of frames"),
        ({"file": str(tmp_path / (PREFIX + "else"))}, "no file of frames"),
        ({"file": str(tmp_path / (PREFIX + "gone"))}, "subscribe without shared memory"),
        ({"pixels_at": 1 << 40}, "beyond its end"),
        ({"generation_at": 1 << 40}, "beyond its end"),
    ]
    for change, says in cases:
        with pytest.raises(RefocusError, match=says) as raised:
            SharedReader().read(place.model_copy(update=change), SHAPE, U16)
        assert "\n" not in str(raised.value)
    for name in ("short", "else"):
        (tmp_path / (PREFIX + name)).unlink()


@pytest.mark.parametrize("note", [b"{}", b"\xff", b'{"schema": "refocus/2"}'])
def test_notes_of_another_schema_are_refused(note):
    with pytest.raises(RefocusError, match="schema refocus/1"):
        SharedPixels.decode(note)


def test_no_room_is_told_and_the_next_folder_tried(folder):
    frames = SharedFrames(1000, folders=[folder / "missing", folder])
    assert frames.file.parent == folder
    assert frames.file.stat().st_mode & 0o077 == 0  # other users cannot read it
    with pytest.raises(RefocusError, match=r"no room for 4 frames of 1000000000000\.0 MB"):
        SharedFrames(10**18, folders=[folder])
    with pytest.raises(RefocusError, match="no folder"):
        SharedFrames(1000, folders=[])
    frames.close()


@pytest.mark.parametrize(("frame_bytes", "slots"), [(1000, 64), (65_536, 16), (1 << 19, 4)])
def test_the_ring_has_a_bounded_size(folder, monkeypatch, frame_bytes, slots):
    monkeypatch.setattr(sharedmemory, "RING_BYTES", 1 << 20)
    frames = SharedFrames(frame_bytes, folders=[folder])
    assert frames.slots == slots
    frames.close()


def test_memory_is_tried_before_the_disk():
    folders = default_folders()
    assert folders[-1] == Path(tempfile.gettempdir())
    assert sys.platform != "linux" or folders[0] in (Path("/dev/shm"), folders[-1])


WRITER = """
import sys, time, numpy as np
from pathlib import Path
from refocus.stream.shared_memory import SharedFrames
frames = SharedFrames(folders=[Path(sys.argv[1])])
print(frames.write(np.full((24, 40), 7, np.uint16)).encode().decode(), flush=True)
time.sleep(float(sys.argv[2]))
"""
READER = """
import sys, time, numpy as np
from refocus.stream.shared_memory import SharedPixels, SharedReader
reader = SharedReader()
images = reader.read(SharedPixels.decode(sys.argv[1].encode()), (24, 40), np.dtype("<u2"))
print(int(images[0].max()), flush=True)
time.sleep(float(sys.argv[2]))
"""


def process(code, *args):
    command = [sys.executable, "-W", "error", "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_reader_in_another_process_leaves_the_file_alone_however_it_ends(frames):
    place = frames.write(np.full(SHAPE, 7, np.uint16))
    ended = process(READER, place.encode().decode(), 0)
    assert ended.communicate() == ("7\n", "")
    killed = process(READER, place.encode().decode(), 600)
    assert killed.stdout.readline() == "7\n"
    for number in range(20):  # it holds the mapping, and nobody waits for it
        last = frames.write(image(number))
    killed.kill()
    killed.communicate()
    assert frames.file.exists()
    assert SharedReader().read(last, SHAPE, U16) is not None


def test_a_writer_that_ends_without_closing_leaves_nothing(folder):
    writer = process(WRITER, folder, 0)
    place = SharedPixels.decode(writer.communicate()[0].encode())
    assert not Path(place.file).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps what a reader has mapped")
def test_what_a_killed_writer_leaves_is_deleted_by_the_next(folder):
    writers = [process(WRITER, folder, 600) for _ in range(2)]
    notes = [writer.stdout.readline() for writer in writers]
    dead, alive = (SharedPixels.decode(note.encode()) for note in notes)
    reader = SharedReader()
    assert reader.read(dead, SHAPE, U16) is not None
    writers[0].send_signal(signal.SIGKILL)
    writers[0].communicate()
    assert Path(dead.file).exists()
    with closing(SharedFrames(1000, folders=[folder])):
        assert not Path(dead.file).exists()
        assert Path(alive.file).exists()
    assert reader.read(dead, SHAPE, U16)[0].max() == 7  # what it had mapped is still its own
    writers[1].kill()
    writers[1].communicate()
    assert remove_stale(folder) == [Path(alive.file)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_of_the_writer_deletes_nothing(frames):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        frames.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert frames.file.exists()


def result(number, shape=SHAPE):
    captured = CapturedFrame(image(number, shape), number, "2025-01-02T03:04:05.000006+00:00", 0)
    pixels = np.invert(captured.pixels)
    return FrameResult(captured, pixels, True, number, queued_ms=1.0, engine_ms=2.0)


@pytest.fixture
def publish(folder, monkeypatch):
    """Give a publisher that shares memory, but not with other programs of this machine."""
    monkeypatch.setattr(sharedmemory, "default_folders", lambda: (folder,))
    # room for every note: on a busy machine ZeroMQ would drop some, and the ring be blamed
    with Publisher("tcp://127.0.0.1:*", raw=True, shared_memory=True, high_water=1000) as publisher:
        yield publisher


def send(publisher, count):
    publisher.start(RunInfo("run"))
    for number in range(count):
        publisher.put(result(number))
    publisher.close(Stats(run="run", received=count, published=count).check())


def test_readers_choose_memory_or_messages_and_get_the_same(publish):
    with (
        subscribe(publish.endpoint, timeout=20, shared_memory=True) as near,
        subscribe(publish.endpoint, timeout=20) as far,
    ):
        assert publish.wait_subscribers(2, 10)
        send(publish, 5)
        frames = list(zip(near, far, strict=True))
    for number, both in enumerate(frames):
        for frame in both:
            assert (frame.header.number, frame.lost) == (number, 0)
            np.testing.assert_array_equal(frame.pixels, result(number).pixels)
            np.testing.assert_array_equal(frame.raw, image(number))
            assert not frame.pixels.flags.writeable
    assert (near.received, near.lost, near.end.frames["published"]) == (5, 0, 5)


def test_memory_nobody_reads_is_not_written(publish, folder):
    with subscribe(publish.endpoint, timeout=20) as far:
        assert publish.wait_subscribers(1, 10)
        send(publish, 3)
        assert len(list(far)) == 3
    assert list(folder.glob(PREFIX + "*")) == []


def test_what_a_slow_reader_of_memory_loses_is_counted_to_the_last_frame(publish):
    with subscribe(publish.endpoint, timeout=20, shared_memory=True) as near:
        assert publish.wait_subscribers(1, 10)
        send(publish, 100)  # before it reads, the ring has gone round once
        frames = list(near)
    assert (near.received, near.lost) == (64, 36)
    assert (frames[0].header.number, frames[0].lost) == (36, 36)
    for frame in frames:
        np.testing.assert_array_equal(frame.pixels, result(frame.header.number).pixels)


def test_the_file_is_there_until_its_reader_has_it(publish, folder):
    with subscribe(publish.endpoint, timeout=20, shared_memory=True) as near:
        assert publish.wait_subscribers(1, 10)
        send(publish, 3)
        release = threading.Thread(target=publish.release)
        release.start()  # the publisher ends before its reader has begun
        assert len(list(near)) == 3
        release.join()
    assert list(folder.glob(PREFIX + "*")) == []


def test_frames_that_no_longer_fit_cost_the_readers_of_memory_a_gap_and_others_nothing(
    publish, folder, monkeypatch
):
    with (
        subscribe(publish.endpoint, timeout=20, shared_memory=True) as near,
        subscribe(publish.endpoint, timeout=20) as far,
    ):
        assert publish.wait_subscribers(2, 10)
        publish.start(RunInfo("run"))
        publish.put(result(0))
        frames = iter(near)
        first = next(frames)
        monkeypatch.setattr(sharedmemory, "FEWEST_SLOTS", 1 << 40)  # more than any disk holds
        monkeypatch.setattr(sharedmemory, "MOST_SLOTS", 1 << 40)
        monkeypatch.setattr(sharedmemory, "RING_BYTES", 1 << 60)
        publish.put(result(1, (200, 200)))
        publish.put(result(2))
        publish.close(Stats(run="run", received=3, published=3).check())
        assert [frame.header.number for frame in far] == [0, 1, 2]
        assert (first.header.number, list(frames), near.lost) == (0, [], 2)
    assert list(folder.glob(PREFIX + "*")) == []


def test_a_publisher_without_shared_memory_is_told_apart():
    with Publisher("tcp://127.0.0.1:*") as publisher:
        near = subscribe(publisher.endpoint, timeout=20, shared_memory=True)
        assert publisher.wait_subscribers(1, 10)
        publisher.start(RunInfo("run"))
        with pytest.raises(RefocusError, match="publishes without shared memory"):
            list(near)


def test_an_acquisition_is_read_from_shared_memory(microscope, folder, monkeypatch):
    monkeypatch.setattr(sharedmemory, "default_folders", lambda: (folder,))
    with attach(
        microscope.core,
        engine=FakeEngine(),
        publish="tcp://127.0.0.1:*",
        publish_raw=True,
        shared_memory=True,
        throttle=True,
    ) as live:
        near = subscribe(live.endpoint, timeout=20, shared_memory=True)
        assert live.wait_subscribers(1, 10)
        microscope.core.mda.run(microscope.sequence(6))
        frames = list(near)
    assert live.stats.check().published == len(frames) == 6
    for frame in frames:
        np.testing.assert_array_equal(frame.pixels, np.invert(frame.raw))
