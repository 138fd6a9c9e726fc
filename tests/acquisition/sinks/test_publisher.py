import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import zmq

from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks import headers
from refocus.acquisition.sinks.publisher import Publisher
from refocus.configs import ModelCard, Optics, RefocusError
from refocus.engine.protocol import EngineInfo
from refocus.stream import messages
from refocus.stream.subscriber import subscribe

ANY = "tcp://127.0.0.1:*"


def result(number, shape=(6, 5), dtype=np.uint16):
    pixels = np.random.default_rng(number).integers(0, 200, shape).astype(dtype)
    captured = CapturedFrame(
        pixels=pixels,
        frame=number + 10,
        captured_utc="2025-01-02T03:04:05.000006+00:00",
        captured_ns=time.perf_counter_ns(),
        index={"t": number},
        channel="DAPI",
        position_um={"z": 1.5},
        pixel_size_um=0.656,
        exposure_ms=10.0,
        camera="Camera",
        bit_depth=8 * np.dtype(dtype).itemsize,
        source="a01_s1.png",
    )
    return FrameResult(captured, np.invert(pixels), True, number, queued_ms=1.0, engine_ms=2.0)


@pytest.fixture
def publisher():
    with Publisher(ANY, raw=True) as publisher:
        yield publisher


def published(publisher, results, run="run"):
    publisher.start(RunInfo(run, policy="newest"))
    for one in results:
        publisher.put(one)
    publisher.close(Stats(run=run, received=len(results), published=len(results)).check())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_frames_arrive_bit_identical_with_all_that_is_known(publisher, dtype):
    with subscribe(publisher.endpoint, timeout=10) as subscription:
        assert publisher.wait_subscribers(1, 10)
        sent = [result(number, dtype=dtype) for number in range(5)]
        published(publisher, sent)
        frames = list(subscription)
    assert len(frames) == 5
    for frame, one in zip(frames, sent, strict=True):
        np.testing.assert_array_equal(frame.pixels, one.pixels)
        np.testing.assert_array_equal(frame.raw, one.captured.pixels)
        assert frame.pixels.dtype == dtype
        assert not frame.pixels.flags.writeable
        assert frame.lost == 0
    header = frames[3].header
    assert (header.number, header.frame, header.source) == (3, 13, "a01_s1.png")
    assert (header.index, header.position_um) == ({"t": 3}, {"z": 1.5})
    assert header.times_ms.published > 0
    assert (subscription.received, subscription.lost) == (5, 0)
    assert subscription.end.frames["published"] == 5
    assert subscription.run is not None


def test_any_zeromq_reader_can_follow(publisher):
    context = zmq.Context()
    reader = context.socket(zmq.SUB)
    reader.setsockopt(zmq.SUBSCRIBE, b"")
    reader.connect(publisher.endpoint)
    assert publisher.wait_subscribers(1, 10)
    published(publisher, [result(0)])
    parts = [reader.recv_multipart() for _ in range(3)]
    reader.close()
    context.term()
    assert [part[0] for part in parts] == [b"refocus.run", b"refocus.frame", b"refocus.end"]
    headers = [json.loads(part[1]) for part in parts]
    assert {header["schema"] for header in headers} == {"refocus/1"}
    keys = (
        "schema run number frame source index channel position_um pixel_size_um exposure_ms "
        "camera shape dtype bit_depth captured_utc times_ms refocused pixels focus trust tiles "
        "decision processor"
    )
    assert headers[1].keys() == set(keys.split(" "))
    assert headers[1]["times_ms"].keys() == {"queued", "engine", "published"}
    assert parts[1][2] == result(0).pixels.astype("<u2").tobytes()
    assert parts[1][3] == result(0).captured.pixels.astype("<u2").tobytes()


def test_readers_are_counted_one_by_one_as_they_come_and_go(publisher):
    assert not publisher.wait_subscribers(1, timeout=0)
    first = subscribe(publisher.endpoint)
    with subscribe(publisher.endpoint):
        assert publisher.wait_subscribers(2, 10)
        assert publisher.subscribers() == 2
    for _ in range(500):
        if publisher.subscribers() == 1:
            break
        time.sleep(0.01)
    assert publisher.subscribers() == 1
    first.close()


def test_who_joins_late_learns_of_the_run_and_has_lost_nothing(publisher):
    publisher.start(RunInfo("run"))
    for number in range(4):
        publisher.put(result(number))
    with subscribe(publisher.endpoint, timeout=10) as subscription:
        assert publisher.wait_subscribers(1, 10)
        publisher.tick(Stats(run="run", received=4, published=4).check())
        publisher.put(result(4))
        publisher.put(result(6))
        publisher.close(Stats(run="run", received=6, published=6).check())
        kinds = [type(message).__name__ for message in subscription.messages()]
    assert kinds == ["RunHeader", "StatsHeader", "ReceivedFrame", "ReceivedFrame", "EndHeader"]
    assert (subscription.received, subscription.lost) == (2, 1)


def test_what_a_slow_reader_loses_is_counted_to_the_last_message():
    frames = 60
    publisher = Publisher(ANY, high_water=2)
    with subscribe(publisher.endpoint, timeout=20, high_water=1) as subscription:
        assert publisher.wait_subscribers(1, 10)
        publisher.start(RunInfo("run"))
        for number in range(frames):
            publisher.put(result(number, (1024, 1024)))  # never blocks
        publisher.close(Stats(run="run", received=frames, published=frames).check())
        release = threading.Thread(target=publisher.release)
        release.start()  # and the end still comes
        received = sum(1 for _ in subscription)
    release.join()
    assert 0 < received < frames
    assert (subscription.received, subscription.lost) == (received, frames - received)


def test_a_reader_that_never_reads_keeps_the_end_from_nobody():
    with Publisher(ANY, high_water=1, linger_seconds=0.05) as publisher:
        stuck = subscribe(publisher.endpoint, high_water=1)
        assert publisher.wait_subscribers(1, 10)
        publisher.start(RunInfo("run"))
        for number in range(40):
            publisher.put(result(number, (1024, 1024)))
        with subscribe(publisher.endpoint, timeout=20) as subscription:
            assert publisher.wait_subscribers(2, 10)
            stats = Stats(run="run", received=40, published=40).check()
            publisher.close(stats)
            publisher.tick(stats)
            assert [type(message).__name__ for message in subscription.messages()] == ["EndHeader"]
        stuck.close()


def test_a_second_run_counts_from_0_again(publisher):
    with subscribe(publisher.endpoint, timeout=10, runs=2) as subscription:
        assert publisher.wait_subscribers(1, 10)
        published(publisher, [result(n) for n in range(3)], run="one")
        published(publisher, [result(n) for n in range(1, 3)], run="two")
        frames = [(frame.header.run, frame.header.number, frame.lost) for frame in subscription]
    assert frames == [("one", 0, 0), ("one", 1, 0), ("one", 2, 0), ("two", 1, 1), ("two", 2, 0)]


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("tcp://0.0.0.0:5555", "other hosts could read every frame"),
        ("tcp://*:5555", "other hosts could read every frame"),
        ("tcp://192.168.1.5:5555", "other hosts could read every frame"),
        ("tcp://[::]:5555", "other hosts could read every frame"),
        ("127.0.0.1:5555", "not one to bind to"),
        ("tcp://127.0.0.1", "not one to bind to"),
        ("tcp://127.0.0.1:port", "not one to bind to"),
        ("tcp://127.0.0.1:65536", "'65536' is no port, which is a number up to 65535"),
        ("tcp://127.0.0.1:99999", "'99999' is no port, which is a number up to 65535"),
        ("tcp://127.0.0.1:-1", "'-1' is no port, which is a number up to 65535"),
        ("tcp://127.0.0.1:+5555", "'\\+5555' is no port, which is a number up to 65535"),
        ("carrier-pigeon://roof", "not one to bind to"),
        ("", "not one to bind to"),
    ],
)
def test_endpoints_that_cannot_be_used_are_told_in_one_line(endpoint, says):
    with pytest.raises(RefocusError, match=says) as raised:
        Publisher(endpoint)
    assert "\n" not in str(raised.value)
    assert endpoint in str(raised.value)


def test_a_port_in_use_is_told(publisher):
    with pytest.raises(RefocusError, match="in use by another program; choose another port"):
        Publisher(publisher.endpoint)


def test_another_address_is_bound_when_asked_for():
    with Publisher("tcp://*:*", insecure=True) as publisher:
        assert publisher.endpoint.startswith("tcp://0.0.0.0:")
    with Publisher("tcp://localhost:*") as publisher:
        assert publisher.endpoint.startswith("tcp://127.0.0.1:")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "refocus/2"}, "of schema 'refocus/2', and this reader understands"),
        ({"schema": None}, "of schema None"),
        ({"shape": [6]}, "shape"),
        ({"shape": [60, 50]}, "not the 6000 bytes"),
        ({"dtype": "object"}, "dtype"),
        ({"number": -1}, "number"),
        ({"a_later_key": 1}, None),
        (None, "not JSON of schema refocus/1"),
    ],
)
def test_a_reader_ignores_what_it_does_not_know_and_refuses_what_it_misunderstands(change, says):
    one = result(0)
    header = json.loads(headers.frame_header("run", one, 3.0).encode())
    data = b"\xff" if change is None else json.dumps(header | change).encode()
    context = zmq.Context()
    sender = context.socket(zmq.XPUB)
    port = sender.bind_to_random_port("tcp://127.0.0.1")
    with subscribe(f"tcp://127.0.0.1:{port}", timeout=10) as subscription:
        for _ in range(5):
            sender.recv()  # its subscriptions
        sender.send_multipart([b"refocus.later", b"{}"])
        sender.send_multipart([messages.FRAME, data, one.pixels.tobytes()])
        if says:
            with pytest.raises(RefocusError, match=says) as raised:
                next(iter(subscription))
            assert "\n" not in str(raised.value)
        else:
            np.testing.assert_array_equal(next(iter(subscription)).pixels, one.pixels)
    sender.close()
    context.term()


def test_silence_is_told():
    with pytest.raises(RefocusError, match=r"nothing heard for 0\.01 s; see that an acquisition"):
        list(subscribe("tcp://127.0.0.1:9", timeout=0.01))


@pytest.mark.parametrize("endpoint", ["nowhere", "tcp://127.0.0.1:99999"])
def test_what_is_no_endpoint_is_not_waited_for(endpoint):
    with pytest.raises(RefocusError, match="not one to connect to"):
        subscribe(endpoint)


def test_subscribing_needs_no_microscope_nor_engine():
    heavy = {"torch", "openvino", "pymmcore_plus", "ome_writers", "scipy", "useq"}
    code = f"import sys, refocus.acquisition as a; a.subscribe; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_engine_that_is_replaced_is_announced_once(publisher):
    def info(name, sha256="ab" * 32):
        card = ModelCard(
            name="m",
            version="1",
            architecture="compact",
            optics=Optics(),
            defocus_um=(-20.0, 20.0),
            training_data="none",
            licence="BSD-3-Clause",
            sha256=sha256,
        )
        return EngineInfo(name=name, device="here", precision="f32", card=card)

    first = info("tensorrt")
    engines = [first, first, info("torch"), first, info("torch"), info("other", "cd" * 32), None]
    with subscribe(publisher.endpoint, timeout=10) as subscription:
        assert publisher.wait_subscribers(1, 10)
        publisher.start(RunInfo("run", engine=first.describe()))
        for number, engine in enumerate(engines):
            publisher.put(replace(result(number), engine=engine))
        publisher.close(Stats(run="run"))
        heard = list(subscription.messages())
    runs = [one for one in heard if isinstance(one, messages.RunHeader)]
    assert [one.engine["name"] for one in runs] == ["tensorrt", "torch"]
    assert runs[1].engine["fallback_from"] == "tensorrt"
    assert heard.index(runs[1]) == 3  # before the first frame that it refocused
