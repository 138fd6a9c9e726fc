"""A real Triton server, for tests of several folders."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from refocus.bench.triton_server import TritonServer, missing
from refocus.engine.shipped import shipped_models
from refocus.export.to_triton import triton_from_onnx


@pytest.fixture(scope="session")
def repository(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a repository of the random model alone."""
    folder = tmp_path_factory.mktemp("one-model")
    triton_from_onnx(model_file, folder, backend="python", threads=1)
    return folder


@pytest.fixture(scope="session")
def server(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """Give a server of the random model and of those that ship; it is left as it is."""
    if why := missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("models")
    for model in (model_file, *shipped_models().values()):
        triton_from_onnx(model, folder, backend="python", threads=1)
    with TritonServer(folder) as running:
        yield running
