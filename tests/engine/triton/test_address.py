"""Addresses of served engines."""

from pathlib import Path

import pytest

from refocus.engine import EngineError, open_engine
from refocus.engine.triton.address import read_address


@pytest.mark.parametrize(
    ("text", "host", "port", "model", "target"),
    [
        ("grpc://127.0.0.1:8001", "127.0.0.1", 8001, "", "127.0.0.1:8001"),
        ("grpc://localhost:8001/any-objective", "localhost", 8001, "any-objective", None),
        ("grpc://[::1]:9000/a/", "::1", 9000, "a", "[::1]:9000"),
        ("grpcs://gpu-host:8001", "gpu-host", 8001, "", "gpu-host:8001"),
    ],
)
def test_what_an_address_says(
    text: str, host: str, port: int, model: str, target: str | None
) -> None:
    address = read_address(text)
    assert (address.host, address.port, address.model) == (host, port, model)
    assert address.target == (target or f"{host}:{port}")
    assert address.tls == text.startswith("grpcs")


def test_files_of_an_address(tmp_path: Path) -> None:
    files = {"model": "m.onnx", "ca": "ca.pem", "cert": "c.pem", "key": "k.pem"}
    for name in files.values():
        (tmp_path / name).touch()
    asked = "&".join(f"{key}={tmp_path / name}" for key, name in files.items())
    address = read_address(f"grpcs://gpu-host:8001/m?{asked}")
    assert (address.file, address.ca) == (tmp_path / "m.onnx", tmp_path / "ca.pem")
    assert (address.cert, address.key) == (tmp_path / "c.pem", tmp_path / "k.pem")


@pytest.mark.parametrize("scheme", ["grpc", "grpcs"])
def test_beyond_this_host_only_encrypted_or_allowed(scheme: str) -> None:
    text = f"{scheme}://gpu-host:8001"
    assert read_address(text, insecure=True).host == "gpu-host"
    if scheme == "grpcs":
        assert read_address(text).tls
        return
    with pytest.raises(EngineError, match=r"could read every frame; encrypt it .*--insecure"):
        open_engine(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grpc://", "not HOST:PORT"),
        ("grpc://127.0.0.1", "not HOST:PORT"),
        ("grpc://127.0.0.1:8001/a/b", "not HOST:PORT"),
        ("grpc://me@127.0.0.1:8001", "not HOST:PORT"),
        ("grpc://127.0.0.1:eight", "write for example grpc://127.0.0.1:8001"),
        ("grpc://127.0.0.1:99999", "write for example grpc://127.0.0.1:8001"),
        ("grpc://127.0.0.1:8001?model", "bad query field"),
        ("grpc://127.0.0.1:8001?model=none.onnx", "model: none.onnx: no such file"),
        ("grpc://127.0.0.1:8001?ca=none.pem", "certificates are for grpcs://"),
        ("grpc://127.0.0.1:8001?colour=red", "colour is not one of model"),
        ("grpcs://127.0.0.1:8001?cert=none.pem", "cert: none.pem: no such file"),
        ("grpc://127.0.0.1:8001/zebra", "zebra of 127.0.0.1:8001 does not ship"),
    ],
)
def test_what_is_no_address_is_one_line(text: str, words: str) -> None:
    with pytest.raises(EngineError, match=words) as error:
        open_engine(text)
    assert "\n" not in str(error.value)


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    (tmp_path / "c.pem").touch()
    with pytest.raises(EngineError, match="cert and key belong together"):
        open_engine(f"grpcs://127.0.0.1:8001?cert={tmp_path}/c.pem")
