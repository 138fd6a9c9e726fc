"""Choosing an engine, and going on to the next one."""

import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refocus.engine import EngineError, open_engine
from refocus.engine.fake import FakeEngine
from refocus.engine.fallback import FallbackEngine
from refocus.engine.nvidia import Gpu, find_gpu
from refocus.engine.protocol import DeviceError, Frame, LightPath

FRAME = np.full((32, 32), 7, np.uint16)


class Breaking(FakeEngine):
    """Loses its device on one call."""

    def __init__(self, call: int = 0) -> None:
        super().__init__()
        self._call = call

    def refocus(self, frame: Frame) -> Frame:
        if self.calls > self._call:
            raise DeviceError("the GPU failed")
        return super().refocus(frame)


def absent() -> Any:
    raise DeviceError("not installed")


def test_auto_takes_openvino_without_a_gpu(model_file: Path) -> None:
    if find_gpu() is not None:
        pytest.skip("this machine has an NVIDIA GPU")
    engine = open_engine("auto", model_file)
    assert engine.info.name == "openvino"
    engine.close()


@pytest.mark.parametrize("name", ["auto", "openvino"])
def test_the_model_that_ships_for_the_light_path_is_taken(name: str) -> None:
    engine = open_engine(name, light_paths=[LightPath(0.325, 0.75)])
    assert engine.info.card is not None
    assert engine.info.card.name == "any-objective"
    engine.close()


def test_auto_imports_no_torch_without_a_gpu(model_file: Path) -> None:
    if find_gpu() is not None:
        pytest.skip("this machine has an NVIDIA GPU")
    code = (
        "import sys; from refocus.engine import open_engine; "
        f"open_engine('auto', __import__('pathlib').Path({str(model_file)!r})).close(); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_gpu_engine_says_what_it_needs(name: str, model_file: Path) -> None:
    if find_gpu() is not None:
        pytest.skip("this machine has an NVIDIA GPU")
    with pytest.raises(DeviceError, match="needs an NVIDIA GPU"):
        open_engine(name, model_file)


def test_devices_that_are_not_there(model_file: Path) -> None:
    with pytest.raises(DeviceError, match="OpenVINO does not see it; it sees CPU"):
        open_engine("openvino", model_file, device="NPU.7")
    with pytest.raises(EngineError, match="not known to PyTorch"):
        open_engine("torch", model_file, device="abacus")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tensorflow", "allowed: auto, tensorrt, tensorrt-rtx, torch, openvino, fake"),
        ("model.safetensors", "refocus-export onnx"),
        ("none.onnx", "no such model"),
    ],
)
def test_unknown_names(name: str, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        open_engine(name)


def test_auto_with_a_gpu_that_nothing_can_use(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A driver and a GPU, and none of the libraries: OpenVINO, and the log says why."""
    if find_gpu() is not None:
        pytest.skip("this machine has an NVIDIA GPU")
    gpu = Gpu("NVIDIA Test", "8.9", "12.8", 1 << 30)
    for module in ("open", "tensorrt.engine"):
        monkeypatch.setattr(f"refocus.engine.{module}.find_gpu", lambda: gpu, raising=False)
    monkeypatch.setattr("refocus.engine.tensorrt.engine.load_runtime", lambda _: absent())
    with caplog.at_level(logging.INFO, "refocus.engine"):
        engine = open_engine("auto", model_file)
    assert engine.info.name == "openvino"
    engine.close()
    passed_over = [r.getMessage() for r in caplog.records]
    for name in ("tensorrt", "tensorrt-rtx", "torch"):
        assert any(f"engine {name} is passed over" in m for m in passed_over)


def test_next_engine_does_the_frame_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Breaking(call=1), FakeEngine()
    engine = FallbackEngine({"absent": absent, "gpu": lambda: first, "cpu": lambda: second})
    engine.warm_up((32, 32), np.dtype(np.uint16))
    wanted = engine.refocus(FRAME)
    with caplog.at_level(logging.WARNING, "refocus.engine"):
        np.testing.assert_array_equal(engine.refocus(FRAME), wanted)
    assert first.closed
    assert second.calls == 1
    assert "the GPU failed" in caplog.text
    engine.close()
    assert second.closed


def test_last_engine_that_fails_says_so() -> None:
    engine = FallbackEngine({"gpu": Breaking})
    with pytest.raises(DeviceError, match="the GPU failed"):
        engine.refocus(FRAME)
    with pytest.raises(DeviceError, match="not installed"):
        FallbackEngine({"absent": absent})


def test_frames_at_fault_change_nothing() -> None:
    first = FakeEngine(fail_on=frozenset({0}))
    engine = FallbackEngine({"gpu": lambda: first, "cpu": FakeEngine})
    with pytest.raises(EngineError, match="told to fail"):
        engine.refocus(FRAME)
    assert not first.closed


def test_a_frame_in_an_engine_that_another_thread_replaced_is_done_by_the_next() -> None:
    began, replaced = threading.Event(), threading.Event()

    class Overtaken(FakeEngine):
        """Holds its first frame until the engine was closed; fails on the second."""

        def refocus(self, frame: Frame) -> Frame:
            if began.is_set():
                raise DeviceError("the GPU failed")
            began.set()
            assert replaced.wait(10)
            raise EngineError("the engine is closed; open it again")

    engine = FallbackEngine({"gpu": Overtaken, "cpu": FakeEngine})
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(engine.refocus, FRAME)
        assert began.wait(10)
        wanted = engine.refocus(FRAME)
        replaced.set()
        np.testing.assert_array_equal(waiting.result(10), wanted)
