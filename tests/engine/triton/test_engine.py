"""An engine behind a real Triton server: what it refuses, and what it makes of frames."""

import logging
import shutil
import socket
import subprocess
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from refocus.bench.triton_server import TritonServer, missing
from refocus.engine import EngineError, open_engine
from refocus.engine.model_file import embed_card, read_model
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.protocol import DeviceError
from refocus.engine.shipped import shipped_models
from refocus.engine.triton import engine as triton_engine
from refocus.engine.triton.address import read_address
from refocus.engine.triton.engine import TritonEngine
from refocus.engine.triton.shared import FOLDER
from refocus.export.to_triton import triton_from_onnx

FRAME = np.random.default_rng(3).poisson(300, (64, 96)).astype(np.uint16)


def test_no_server(model_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DeviceError, match=r"no Triton server answers there \(Connection refused"):
        TritonEngine(read_address(f"grpc://127.0.0.1:{port}"), model_file)


def altered(model: Path, path: Path, **changes: str) -> Path:
    """Write a model with another card, or with other weights."""
    proto, card = read_model(model)
    if not changes:
        weight = next(t for t in proto.graph.initializer if t.name.endswith("correction.weight"))
        twice = 2 * onnx.numpy_helper.to_array(weight)
        weight.CopyFrom(onnx.numpy_helper.from_array(twice, weight.name))
    embed_card(proto, card.model_copy(update=changes))
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "there has weights with the checksum"),
        ({"name": "other"}, "there is random, and that of this host other"),
        ({"version": "2"}, "there has version 1, and that of this host 2"),
    ],
)
def test_another_model(
    server: TritonServer, model_file: Path, tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    mine = altered(model_file, tmp_path / "random.onnx", **changes)
    with pytest.raises(EngineError, match=words) as error:
        open_engine(server.address, mine)
    assert "\n" not in str(error.value)


def test_a_model_that_is_not_there(server: TritonServer, model_file: Path) -> None:
    with pytest.raises(DeviceError, match=r"zebra is not served there .*any-objective, random"):
        open_engine(f"{server.address}/zebra", model_file)


def test_tls_where_the_server_has_none(server: TritonServer, model_file: Path) -> None:
    with pytest.raises(DeviceError, match="no Triton server answers there"):
        open_engine(server.address.replace("grpc", "grpcs"), model_file)


def shared_with(server: TritonServer) -> dict[str, Any]:
    """Give the memory that a server looks at, by name."""
    from tritonclient.grpc import InferenceServerClient

    with closing(InferenceServerClient(server.address.removeprefix("grpc://"))) as client:
        return dict(client.get_system_shared_memory_status().regions)


@pytest.mark.parametrize("shared", [True, False])
def test_it_makes_of_a_frame_what_the_model_does(
    server: TritonServer, model_file: Path, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refocus.engine.triton.connection.can_share", lambda: shared)
    with (
        closing(OpenVinoEngine(model_file, precision="f32")) as local,
        closing(TritonEngine(read_address(server.address), model_file)) as engine,
    ):
        for shape in ((64, 96), (64, 96), (33, 47), (160, 64)):
            frame = np.resize(FRAME, shape)
            apart = np.abs(engine.refocus(frame).astype(float) - local.refocus(frame))
            assert apart.max() <= 1
        assert bool(shared_with(server)) == shared
        assert list(FOLDER.glob("refocus-[0-9]*")) == []
    assert shared_with(server) == {}


def test_a_frame_of_another_size_than_the_model_takes(
    server: TritonServer, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(TritonEngine(read_address(server.address), model_file)) as engine:
        monkeypatch.setattr(engine._connection, "_shape", (1, 1, 64, 64))
        with pytest.raises(EngineError, match="is for frames of 64×64, and this one takes 64×96"):
            engine.refocus(FRAME)


def test_frames_too_large_for_one_message_go_in_tiles(
    server: TritonServer, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.random.default_rng(5).poisson(300, (1100, 64)).astype(np.uint16)
    monkeypatch.setattr(triton_engine, "LARGEST", 64 * 1000)
    with (
        closing(OpenVinoEngine(model_file, precision="f32")) as local,
        closing(TritonEngine(read_address(server.address), model_file)) as engine,
    ):
        apart = np.abs(engine.refocus(frame).astype(float) - local.refocus(frame))
        assert apart.max() <= 1


def test_a_model_whose_repository_lies(
    server: TritonServer, model_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = altered(model_file, tmp_path / "other.onnx")
    with (
        closing(OpenVinoEngine(other, precision="f32")) as local,
        closing(TritonEngine(read_address(server.address), model_file)) as engine,
        pytest.raises(EngineError, match="does not compute what it does here"),
    ):
        engine.require_parity(local)


def test_a_server_that_goes_and_comes_back(
    repository: Path, model_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if why := missing():
        pytest.skip(why)
    with TritonServer(repository) as server, closing(open_engine(server.address, model_file)) as it:
        assert it.info.name == "triton"
        wanted = it.refocus(FRAME)
        server.kill()
        tickets = [it.submit(FRAME) for _ in range(it.overlap)]
        results = [ticket() for ticket in tickets]
        assert {result.engine.name for result in results} == {"openvino"}
        for result in results:
            np.testing.assert_allclose(result.pixels.astype(float), wanted, atol=1)
        back = threading.Event()

        class Told(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "is triton again" in record.getMessage():
                    back.set()

        handler = Told()
        logging.getLogger("refocus.engine").addHandler(handler)
        try:
            server.start()
            back.wait()
        finally:
            logging.getLogger("refocus.engine").removeHandler(handler)
        assert it.info.name == "triton"
        np.testing.assert_array_equal(it.refocus(FRAME), wanted)
        server.kill()  # and once more
        assert it.submit(FRAME)().engine.name == "openvino"
    assert "the engine triton failed" in caplog.text


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Give the folder of a certificate for 127.0.0.1 and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return tmp_path


def test_tls(repository: Path, model_file: Path, certificate: Path) -> None:
    if why := missing():
        pytest.skip(why)
    cert, key = certificate / "cert.pem", certificate / "key.pem"
    options = f"--grpc-use-ssl=1 --grpc-server-cert={cert} --grpc-server-key={key}".split()
    with TritonServer(repository, *options) as server:
        address = server.address.replace("grpc", "grpcs")
        with closing(open_engine(f"{address}?ca={cert}", model_file)) as engine:
            assert engine.submit(FRAME)().engine.name == "triton"
        with pytest.raises(DeviceError, match="no Triton server answers there"):
            open_engine(address, model_file)  # nobody vouches for its certificate
        with pytest.raises(DeviceError, match=r"in the other of grpc:// and grpcs://"):
            open_engine(server.address, model_file)


def test_a_file_that_was_altered_on_the_server_is_not_served(
    model_file: Path, tmp_path: Path
) -> None:
    if why := missing():
        pytest.skip(why)
    served = triton_from_onnx(model_file, tmp_path, backend="python", threads=1)
    shipped = shipped_models()["refocus-compact"].read_bytes()
    (served.folder / str(served.version) / "model.onnx").write_bytes(shipped)
    with (
        TritonServer(tmp_path) as server,
        pytest.raises(DeviceError, match=r"not served there .*not the file that was exported"),
    ):
        open_engine(server.address, model_file)
