"""The wire format as ``docs/protocol.md`` tells it, read with nothing of ours but the schema."""

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import useq
import zmq

from refocus.acquisition import attach, subscribe
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.selection import Selection
from refocus.acquisition.sinks.publisher import Publisher
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.stream.json_schema import build_schema, schema_path
from refocus.stream.keys import make_keys
from refocus.stream.messages import RunHeader, StatsHeader

from ..conftest import loops

ANY = "tcp://127.0.0.1:*"
SCHEMA = json.loads(schema_path().read_text())


def is_valid(topic, header):
    schema = {"$ref": f"#/$defs/{topic}", "$defs": SCHEMA["$defs"]}
    jsonschema.Draft202012Validator(schema).validate(header)


# A reader in another language would do the same: only zmq, json and the schema from here on.
READER = """
import json, sys, zmq

schema = json.load(open(sys.argv[2]))["$defs"]
socket = zmq.Context().socket(zmq.SUB)
socket.connect(sys.argv[1])
for topic in ("refocus.run", "refocus.frame", "refocus.stats", "refocus.end", "refocus.readers"):
    socket.subscribe(topic)
expected, total, topic = 0, 0, ""
while topic != "refocus.end":
    topic, header, *parts = socket.recv_multipart()
    topic, header = topic.decode(), json.loads(header)
    missing = set(schema[topic]["required"]) - set(header)
    assert not missing and header["schema"] == schema[topic]["properties"]["schema"]["const"]
    if topic == "refocus.frame":
        assert header["number"] == expected, "lost"
        expected += 1
        height, width = header["shape"]
        size = {"uint8": 1, "uint16": 2}[header["dtype"]]
        refocused, captured = parts
        assert len(refocused) == len(captured) == height * width * size
        total += int.from_bytes(refocused[:size], "little")
    else:
        assert header.get("next_number") == expected, "lost"
print(expected, total, json.dumps(header["frames"]))
"""


def test_a_reader_with_nothing_of_ours(microscope, keep):
    with attach(
        microscope.core, engine=FakeEngine(), publish=ANY, publish_raw=True, sinks=[keep], queue=30
    ) as live:
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, live.endpoint, schema_path()],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert live.wait_subscribers(1, 60)
        microscope.core.mda.run(loops(20))
    received, total, frames = reader.communicate(timeout=60)[0].split(maxsplit=2)
    assert (reader.returncode, received) == (0, "20")
    assert int(total) == sum(int(result.pixels[0, 0]) for result in keep.results)
    assert json.loads(frames) == live.stats.check().frames()


SEQUENCES = {
    "positions and channels": loops(2, stage_positions=[(0, 0), (9, 9)], channels=["DAPI", "BF"]),
    "z-stack": useq.MDASequence(z_plan={"range": 2, "step": 1}),
    "events": None,
}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("shared_memory", [False, True])
def test_every_message_is_as_the_schema_says(microscope, name, shared_memory):
    events = SEQUENCES[name] or iter([useq.MDAEvent(index={"t": t}) for t in range(3)])
    selection = Selection(channels={"DAPI": "auto"}) if "channels" in name else None
    seen = set()
    with (
        Publisher(ANY, shared_memory=shared_memory) as publisher,
        zmq.Context() as context,
        context.socket(zmq.SUB) as socket,
    ):
        for topic in (b"refocus.shared", b""):  # the former only for who asks for it
            socket.subscribe(topic)
        socket.connect(publisher.endpoint)
        assert publisher.wait_subscribers(1, 10)
        with attach(
            microscope.core, engine=FakeEngine(), sinks=[publisher], queue=30, selection=selection
        ) as live:
            microscope.core.mda.run(events)
            publisher.tick(live.stats)
        assert live.stats.check()
        while "refocus.end" not in seen:
            assert socket.poll(10_000)
            first, header, *parts = socket.recv_multipart()
            topic = first.decode()
            seen.add(topic)
            is_valid("refocus.frame" if topic == "refocus.shared" else topic, json.loads(header))
            if topic == "refocus.shared":
                is_valid("refocus.shared", json.loads(parts[0]))
    assert {"refocus.run", "refocus.frame", "refocus.end"} <= seen
    assert ("refocus.shared" in seen) == shared_memory


def test_the_schema_that_ships_is_that_of_the_models():
    assert build_schema() == SCHEMA
    for definition in SCHEMA["$defs"].values():
        jsonschema.Draft202012Validator.check_schema(definition)
        assert definition.get("additionalProperties", True) is True  # unknown keys are ignored


@pytest.mark.parametrize(
    ("topic", "change"),
    [
        ("refocus.frame", {"number": -1}),
        ("refocus.frame", {"dtype": "float32"}),
        ("refocus.frame", {"shape": [5]}),
        ("refocus.frame", {"schema": "refocus/2"}),
        ("refocus.end", {"frames": {"received": "many"}}),
    ],
)
def test_the_schema_refuses_what_a_reader_could_not_read(topic, change):
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    example = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    is_valid("refocus.frame", example)  # the example of the documentation
    header = example if topic == "refocus.frame" else {}
    with pytest.raises(jsonschema.ValidationError):
        is_valid(topic, header | change)


def test_the_documentation_names_every_key():
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    for topic in ("refocus.run", "refocus.frame", "refocus.stats", "refocus.end"):
        for key in SCHEMA["$defs"][topic]["properties"]:
            assert key in text, (topic, key)


def test_only_readers_with_a_key_can_read(tmp_path):
    ours, theirs = make_keys(tmp_path / "keys")
    _, others = make_keys(tmp_path / "others")
    make_keys(tmp_path / "keys", "bob")
    assert oct((theirs / "reader.key_secret").stat().st_mode)[-3:] in ("600", "666")  # Windows
    before = threading.active_count()
    with Publisher("tcp://127.0.0.1:*", keys=ours) as publisher:
        (others / "publisher.key").write_bytes((ours / "publisher.key").read_bytes())
        kept_out = [subscribe(publisher.endpoint), subscribe(publisher.endpoint, keys=others)]
        for reader in (theirs, tmp_path / "keys" / "bob"):
            with subscribe(publisher.endpoint, timeout=20, keys=reader) as subscription:
                assert publisher.wait_subscribers(1, 20)
                assert publisher.subscribers() == 1
                publisher.start(RunInfo("run"))
                publisher.close(Stats(run="run").check())
                kinds = [type(message).__name__ for message in subscription.messages()]
            assert kinds == ["RunHeader", "EndHeader"]
            while publisher.subscribers():
                pass
        for reader in kept_out:
            assert not reader._socket.poll(50)
            reader.close()
    assert threading.active_count() == before


def test_beyond_the_host_keys_are_needed(tmp_path):
    ours, _ = make_keys(tmp_path)
    with pytest.raises(RefocusError, match=r"give readers keys \(refocus-live keys DIR"):
        Publisher("tcp://0.0.0.0:*")
    with Publisher("tcp://0.0.0.0:*", keys=ours) as publisher:
        assert publisher.endpoint.startswith("tcp://0.0.0.0:")


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda path: Publisher(ANY, keys=path / "nowhere"), "publisher.key_secret: no such key"),
        (lambda path: Publisher(ANY, keys=path / "reader"), "run it with --keys DIR/publisher"),
        (lambda path: subscribe(ANY, keys=path / "publisher"), "made for this reader"),
        (make_keys, "reader: exists already"),
        (lambda path: make_keys(path, "publisher"), "not a name"),
        (lambda path: make_keys(path, "../x"), "not a name"),
    ],
)
def test_keys_that_are_not_there_are_told(tmp_path, use, says):
    make_keys(tmp_path)
    with pytest.raises(RefocusError, match=says) as raised:
        use(tmp_path)
    assert "\n" not in str(raised.value)


def test_pixels_are_little_endian_and_c_ordered(microscope):
    """Whatever order the engine gives them in."""

    class Fortran(FakeEngine):
        def refocus(self, frame):
            return np.asfortranarray(super().refocus(frame))

    raw = []
    microscope.core.mda.events.frameReady.connect(lambda *frame: raw.append(frame[0]))
    with (
        attach(microscope.core, engine=Fortran(), publish=ANY, queue=9) as live,
        subscribe(live.endpoint, timeout=20) as subscription,
    ):
        assert live.wait_subscribers(1, 10)
        microscope.core.mda.run(loops(3))
        assert live.wait(20)
        received = [frame.pixels.copy() for frame in subscription]
    assert live.stats.check().published == 3
    np.testing.assert_array_equal(received, [np.invert(pixels) for pixels in raw])


def stats_header():
    counts = {"p50": 1.0, "p99": 2.0}
    return StatsHeader(
        run="a", next_number=0, frames={}, queued=0, capacity=8, fps=7.0,
        latency_ms=counts | {"max": 3.0}, engine_ms=counts,
    ).encode()  # fmt: skip


def nested(header, depth):
    """Add a key that no reader knows, with lists within lists."""
    return header[:-1] + b', "new": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize("spoiled", ["infinity", "depth", "depth within", "count", "schema"])
def test_a_header_that_no_page_could_read_is_refused(spoiled):
    good = stats_header()
    bad = {
        "infinity": good.replace(b"7.0", b"1e999"),
        "depth": b"[" * 200_000,
        "depth within": nested(good, 100_000),
        "count": good.replace(b'"queued":0', b'"queued":1' + b"0" * 400),
        "schema": good.replace(b"refocus/1", b"x" * 70_000),
    }[spoiled]
    words = "message: (fps|its header is not JSON|queued|of schema 'xxx)"
    with pytest.raises(RefocusError, match=words) as raised:
        StatsHeader.decode(bad)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    "change",
    [
        lambda good: good,
        lambda good: nested(good, 190),
        lambda good: nested(good, 210),
        lambda good: good.replace(b'"a"', b'"a", "new": "\\ud800"'),
        lambda good: b"\xef\xbb\xbf" + good,
        lambda good: good.decode().encode("utf-16"),
    ],
    ids=["as sent", "190 deep", "210 deep", "half a letter", "mark", "utf-16"],
)
def test_a_header_is_read_however_another_writes_its_json(change):
    assert StatsHeader.decode(change(stats_header())).fps == 7.0


def test_what_the_publisher_nests_a_reader_reads():
    plan = {}
    for _ in range(210):
        plan = {"within": plan}
    sent = RunHeader(run="a", next_number=0, sequence=plan, camera={}, engine={}, policy="newest")
    assert RunHeader.decode(sent.encode()) == sent
