"""What tests of several folders share."""

import json
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import useq
from filelock import FileLock, ReadWriteLock
from numpy.typing import NDArray

from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.configs import terminal
from refocus.engine.fake import FakeEngine
from refocus.engine.protocol import UNKNOWN, Frame, LightPath, Ticket

WORKERS = "PYTEST_XDIST_WORKER" in os.environ
"""Whether other processes run other tests of this run at the same time (``pytest -n 2``)."""

Once = Callable[[str, Callable[[Path], object]], Path]


class Keep:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.runs, self.results, self.skipped, self.closed = [], [], [], []

    def start(self, run):
        self.runs.append(run)

    def put(self, result):
        self.results.append(result)

    def skip(self, frame, reason):
        self.skipped.append((frame.frame, reason))

    def close(self, stats):
        self.closed.append(stats.check())


class Gated(FakeEngine):
    """An engine that works on one frame, and then not again until it is let go."""

    def __init__(self, gate, free: int = 1, **settings: Any) -> None:
        super().__init__(**settings)
        self.gate = gate
        self.hanging = threading.Event()
        self._free = free

    def refocus(self, frame):
        if self.calls > self._free:
            self.hanging.set()
            self.gate.wait(30)
        return super().refocus(frame)


class Listening(FakeEngine):
    """An engine that notes what it is told of the light path of each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[LightPath] = []

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        self.heard.append(light_path)
        return super().submit(frame)


def loops(count, **plans):
    return useq.MDASequence(time_plan={"interval": 0, "loops": count}, **plans)


def zarr_arrays(root: Path) -> dict[str, NDArray[Any]]:
    """Read every full-resolution array of an OME-Zarr, by its folder."""
    found = {}
    for document in sorted(root.rglob("0/zarr.json")):
        if json.loads(document.read_text())["node_type"] == "array":
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(document.parent)}}
            name = str(document.parent.parent.relative_to(root))
            found[name] = np.asarray(tensorstore.open(spec, read=True).result().read().result())
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that run alone last, where they wait for short ones: those of docs take minutes."""
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let no other test run beside one that is marked ``alone``."""
    if not WORKERS:
        return (yield)
    lock = ReadWriteLock(item.config.cache.mkdir("alone") / "lock")
    with lock.write_lock() if item.get_closest_marker("alone") else lock.read_lock():
        return (yield)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Give a maker of what tests only read: the processes of a run make it once between them."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if WORKERS else folder

    def make(name: str, write: Callable[[Path], object]) -> Path:
        path, made = folder / name, folder / f"{name}.made"
        with FileLock(folder / f"{name}.lock"):
            if not made.exists():
                write(path)
                made.touch()
        return path

    return make


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Undo what a command, run in this process, does to the project's log."""
    logger = logging.getLogger("refocus")
    level, propagate, handlers = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.propagate, logger.handlers = propagate, handlers


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Undo what a command does to the signals of the process."""
    before = {name: signal.getsignal(signal.Signals[name]) for name in terminal.ENDINGS}
    yield
    terminal._may_raise.clear()
    for name, handler in before.items():
        signal.signal(signal.Signals[name], handler)


@pytest.fixture
def keep() -> Keep:
    return Keep()


@pytest.fixture
def microscope() -> Iterator[SimulatedMicroscope]:
    """Give a small simulated microscope in focus, as fast as it can."""
    with SimulatedMicroscope(frame_shape=(96, 96)) as microscope:
        yield microscope


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of real images beside the checkout, or skip the test."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real images in {folder}")
    return folder


@pytest.fixture(scope="session")
def checkpoint_file(once: Once) -> Path:
    """Give a compact network with random weights that do something, as a checkpoint."""
    return once("random.safetensors", _write_checkpoint)


def _write_checkpoint(path: Path) -> None:
    import torch

    from refocus.configs import ModelCard, Optics
    from refocus.training.network.checkpoint import build, save_model

    generator = torch.Generator().manual_seed(7)
    with torch.random.fork_rng():
        torch.manual_seed(7)  # the biases too: the same network whatever ran before
        network = build("compact")
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                spread = 0.5 / weight[0].numel() ** 0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    card = ModelCard(
        name="random",
        version="1",
        architecture="compact",
        optics=Optics(),
        defocus_um=(-20.0, 20.0),
        training_data="none: the weights are random",
        licence="BSD-3-Clause",
    )
    save_model(path, network, card)


@pytest.fixture(scope="session")
def model_file(checkpoint_file: Path, once: Once) -> Path:
    """Give the same network as an ONNX model with a card."""

    def write(path: Path) -> None:
        import onnx

        from refocus.engine.model_file import embed_card
        from refocus.export.to_onnx import convert
        from refocus.training.network.checkpoint import load_model

        network, card = load_model(checkpoint_file)
        model = convert(network)
        embed_card(model, card)
        onnx.save(model, path)

    return once("random.onnx", write)


@pytest.fixture(scope="session")
def half_model_file(model_file: Path, once: Once) -> Path:
    """Give the same network in FP16."""

    def write(path: Path) -> None:
        import onnx

        from refocus.engine.half_precision import half_precision
        from refocus.engine.model_file import embed_card, read_model

        model, card = read_model(model_file)
        half = half_precision(model)
        embed_card(half, card)
        onnx.save(half, path)

    return once("random.fp16.onnx", write)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Give the path of a browser, or skip the test."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("needs a browser: apt-get install chromium")
