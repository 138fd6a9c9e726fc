"""Large frames reach readers from memory, and nobody can tell the difference."""

import socket
import threading
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks.notes import NOTE, NOTED, Memory, Stream
from refocus.acquisition.sinks.publisher import Publisher
from refocus.stream import messages
from refocus.stream import shared_memory as sharedmemory
from refocus.stream.shared_memory import SharedFrames, has_memory
from refocus.stream.subscriber import subscribe

from .test_entrance import until
from .test_publisher import ANY, result

LARGE = (1024, 512)
GREETING = b"\xff" + bytes(8) + b"\x7f\x03" + bytes(53)
READY = b"\x04\x06\x05READY"
PONG = b"\x04\x05\x04PONG"

needs_memory = pytest.mark.skipif(not has_memory(), reason="no folder in memory here")


@pytest.fixture
def frames(tmp_path):
    with closing(SharedFrames(24 * 40 * 2, slots=4, folders=[tmp_path])) as frames:
        yield frames


def image(number):
    return np.full((24, 40), number, np.uint16)


def note(place, size=24 * 40 * 2):
    numbers = (place.generation, place.generation_at, place.pixels_at, size, place.raw_at or 0)
    return NOTE.pack(*numbers) + place.file.encode()


def part(body, more=True):
    """Write a part of a message, as ZMTP 3 has it."""
    if len(body) < 256:
        return bytes([more, len(body)]) + body
    return bytes([2 + more]) + len(body).to_bytes(8, "big") + body


def heard(stream):
    """Read all that there is to be sent now, in pieces of 1000 bytes at most."""
    said = b""
    while piece := stream.piece():
        said += bytes(piece[:1000])
        stream.sent(len(piece[:1000]))
    return said


@settings(max_examples=50)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=30), st.booleans())
def test_notes_become_frames_wherever_the_bytes_are_cut(cuts, amid):
    with closing(SharedFrames(24 * 40 * 2, slots=4)) as frames:
        place = frames.write(image(7))
        between = PONG if amid else b""
        told = [
            *(GREETING, READY, part(b"refocus.run"), part(b"r" * 300, more=False)),
            *(part(NOTED), between, part(b"header"), between, part(note(place), more=False)),
            *(part(b"refocus.frame"), part(b"small"), part(NOTED, more=False)),
        ]
        meant = [
            *(*told[:4], between * 2, part(b"refocus.frame"), part(b"header")),
            *(part(image(7).tobytes(), more=False), *told[-3:]),
        ]
        said, stream, sent = b"".join(told), Stream(Memory()), b""
        buffer = memoryview(bytearray(1000))
        while said:
            cut = cuts[len(said) % len(cuts)]
            size = len(said[:cut])
            buffer[:size] = said[:cut]
            stream.add(buffer[:size])
            sent += heard(stream)
            stream.keep()
            said = said[cut:]
        assert sent == b"".join(meant)
        assert frames.held == 0


def test_what_is_being_sent_is_not_written_over(frames):
    memory = Memory()
    held = memory.hold(note(frames.write(image(1))))
    for number in range(2, 40):
        assert frames.write(image(number)) is not None
    assert frames.held == 1
    assert bytes(held.images[0]) == image(1).tobytes()
    others = [memory.hold(note(frames.write(image(number)))) for number in (40, 41, 42)]
    assert frames.write(image(43)) is None
    held.release()
    assert frames.write(image(44)) is not None
    assert [bytes(one.images[0]) for one in others] == [image(n).tobytes() for n in (40, 41, 42)]
    frames.release()
    assert frames.held == 0


def test_what_was_written_over_or_is_gone_is_left_out(frames, tmp_path):
    first, stream = frames.write(image(0)), Stream(Memory())
    for number in range(1, 5):
        last = frames.write(image(number))
    gone = last.model_copy(update={"file": str(tmp_path / "gone")})
    stream.add(memoryview(GREETING))
    for place in (first, gone, last):
        told = part(NOTED) + part(b"header") + part(note(place), more=False)
        stream.add(memoryview(told))
    pixels = part(image(4).tobytes(), more=False)
    assert heard(stream) == GREETING + part(b"refocus.frame") + part(b"header") + pixels
    assert frames.held == 0


@pytest.fixture
def publisher():
    with Publisher(ANY, raw=True, frame_bytes=1024 * 512 * 2) as publisher:
        yield publisher


def send_until_noted(publisher, number=0):
    """Send frames until they are written into memory; how many."""
    publisher.start(RunInfo("run"))
    while publisher._out._ring is None:
        publisher.put(result(number, LARGE))
        number += 1
        if publisher._out._making:
            publisher._out._making.join()
    return number


def end(publisher, frames):
    stats = Stats(run="run", received=frames, published=frames).check()
    publisher.close(stats)
    until(lambda: publisher.tick(stats) or publisher._end is None)  # as a pipeline does


@needs_memory
def test_large_frames_arrive_bit_identical_and_every_zeromq_reader_can_follow(publisher):
    with ExitStack() as stack:
        reader = stack.enter_context(subscribe(publisher.endpoint, 30))
        context = stack.enter_context(zmq.Context())
        other = stack.enter_context(context.socket(zmq.SUB))
        other.linger = other.rcvhwm = 0
        other.heartbeat_ivl = 50  # its answers come between the parts of a message
        other.heartbeat_timeout = other.rcvtimeo = 30_000
        other.subscribe(b"refocus.frame")
        other.connect(publisher.endpoint)
        asked = publisher._out.readers
        until(lambda: asked.read() or asked.count(b"refocus.frame") == 2)
        before = send_until_noted(publisher)
        for number in range(before, before + 12):
            publisher.put(result(number, LARGE))
            assert publisher._out.on_their_way() < 10
        publisher.put(result(before + 12))  # a small one between them
        publisher.put(result(before + 13, LARGE))
        end(publisher, before + 14)
        frames = list(reader)
        assert [frame.header.number for frame in frames] == list(range(before + 14))
        for frame in frames:
            sent = result(frame.header.number, frame.pixels.shape)
            np.testing.assert_array_equal(frame.pixels, sent.pixels)
            np.testing.assert_array_equal(frame.raw, sent.captured.pixels)
            topic, header, *images = other.recv_multipart()
            assert topic == b"refocus.frame"
            assert messages.FrameHeader.decode(header).number == frame.header.number
            assert images == [frame.pixels.tobytes(), frame.raw.tobytes()]
        until(lambda: publisher._out._ring.held == 0)


@needs_memory
def test_readers_of_messages_and_of_memory_share_one_file():
    with (
        Publisher(ANY, shared_memory=True) as publisher,
        subscribe(publisher.endpoint, 30) as far,
        subscribe(publisher.endpoint, 30, shared_memory=True) as near,
    ):
        assert publisher.wait_subscribers(2, 30)
        publisher.start(RunInfo("run"))
        for number in range(5):
            publisher.put(result(number, LARGE))
        end(publisher, 5)
        for number, both in enumerate(zip(far, near, strict=True)):
            for frame in both:
                np.testing.assert_array_equal(frame.pixels, result(number, LARGE).pixels)


def stalled_reader(stack, publisher):
    """Have a reader come that takes nothing."""
    context = stack.enter_context(zmq.Context())
    stalled = stack.enter_context(context.socket(zmq.SUB))
    stalled.linger, stalled.rcvhwm, stalled.rcvbuf = 0, 1, 65536
    before = publisher.subscribers()
    stalled.connect(publisher.endpoint)
    stalled.subscribe(b"")
    until(lambda: publisher.subscribers() == before + 1)


@needs_memory
def test_who_takes_nothing_costs_one_slot_and_is_let_go_while_there_are_others(publisher, caplog):
    publisher._out._chosen = 4  # slots
    with ExitStack() as stack:
        reader = stack.enter_context(subscribe(publisher.endpoint, 30))
        assert publisher.wait_subscribers(1, 30)
        numbers = count(send_until_noted(publisher))
        ring = publisher._out._ring
        assert ring.slots == 4

        def follows():
            number = next(numbers)
            publisher.put(result(number, LARGE))
            while reader._expected <= number:
                assert reader.receive(30) is not None
            return True

        for held in (1, 2):
            stalled_reader(stack, publisher)
            until(lambda held=held: follows() and ring.held >= held)
            assert "took nothing" not in caplog.text
        stalled_reader(stack, publisher)
        until(lambda: follows() and "took nothing for too long" in caplog.text)
        assert publisher._out._ring is ring
        # of dozens that went through memory, a few were carried while every slot was held
        assert publisher._out._backlog.bytes <= 2 * result(0, LARGE).pixels.nbytes


@needs_memory
def test_what_a_relay_that_ended_was_sending_is_written_again(publisher):
    with ExitStack() as stack:
        stalled_reader(stack, publisher)
        number = send_until_noted(publisher)
        until(lambda: publisher.put(result(number, LARGE)) or publisher._out._ring.held)
    until(lambda: publisher._out._ring.held == 0 and publisher.subscribers() == 0)  # it has gone
    with ExitStack() as stack:
        stalled_reader(stack, publisher)
        until(lambda: publisher.put(result(number, LARGE)) or publisher._out._ring.held)
        publisher._out._entrance._process.kill()
        until(lambda: publisher._out._ring.held == 0)


@needs_memory
def test_a_relay_that_is_started_anew_where_somebody_deleted_the_file_carries(publisher):
    with subscribe(publisher.endpoint, 30) as reader:
        assert publisher.wait_subscribers(1, 30)
        number = send_until_noted(publisher)
        publisher._out._ring.file.unlink()
        publisher._out._entrance._process.kill()
        until(lambda: not publisher._out._noted)
        until(lambda: publisher.put(result(number, LARGE)) or _frame(reader, number))


def _frame(reader, number):
    message = reader.receive(0.1)
    return getattr(getattr(message, "header", None), "number", None) == number


@needs_memory
def test_who_leaves_in_the_middle_of_a_frame_costs_others_nothing(publisher):
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
    ready = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
    port, asked = int(publisher.endpoint.rpartition(":")[2]), publisher._out.readers
    with subscribe(publisher.endpoint, 30) as reader:
        assert publisher.wait_subscribers(1, 30)
        number = send_until_noted(publisher)
        for _ in range(12):
            with socket.create_connection(("127.0.0.1", port), 30) as one:
                one.sendall(greeting + ready)
                answers = b""
                while b"Socket-Type" not in answers:
                    answers += one.recv(100)
                one.sendall(b"\x00\x0e\x01refocus.frame")
                until(lambda: asked.read() or asked.count(b"refocus.frame") == 2)
                publisher.put(result(number, LARGE))
                number += 1
                assert len(one.recv(100_000)) > 0
            until(lambda: asked.read() or asked.count(b"refocus.frame") == 1)
        end(publisher, number)
        for frame in reader:
            np.testing.assert_array_equal(frame.pixels, result(frame.header.number, LARGE).pixels)
        assert (frame.header.number, reader.lost) == (number - 1, 0)
    until(lambda: publisher._out._ring.held == 0)


@needs_memory
def test_where_memory_is_short_frames_are_carried(publisher, monkeypatch, tmp_path):
    monkeypatch.setattr(sharedmemory, "default_folders", lambda: (Path(tmp_path / "missing"),))
    with subscribe(publisher.endpoint, 30) as reader:
        assert publisher.wait_subscribers(1, 30)
        publisher.start(RunInfo("run"))
        for number in range(4):
            publisher.put(result(number, LARGE))
            if publisher._out._making:
                publisher._out._making.join()
        end(publisher, 4)
        assert [frame.header.number for frame in reader] == [0, 1, 2, 3]
    assert publisher._out._ring is None


@needs_memory
def test_who_speaks_an_older_zeromq_is_refused(publisher):
    port = int(publisher.endpoint.rpartition(":")[2])
    for greeting in (b"\xff" + bytes(8) + b"\x7f\x01\x02", b"\x01\x00"):
        with socket.create_connection(("127.0.0.1", port), 30) as old:
            old.sendall(greeting)
            while old.recv(100):
                pass
    with subscribe(publisher.endpoint, 30):
        assert publisher.wait_subscribers(1, 30)


@needs_memory
def test_a_publisher_that_ends_waits_for_frames_in_memory():
    publisher = Publisher(ANY, frame_bytes=1024 * 512 * 2)
    with subscribe(publisher.endpoint, 30) as reader:
        assert publisher.wait_subscribers(1, 30)
        publisher.start(RunInfo("run"))
        until(lambda: publisher.subscribers() and publisher._out._ring)  # before the first frame
        for number in range(20):
            publisher.put(result(number, LARGE))
        end(publisher, 20)
        release = threading.Thread(target=publisher.release)
        release.start()
        assert [frame.header.number for frame in reader] == list(range(20))
        release.join()
    assert publisher._out._ring.file is None
