"""The engine for every machine: OpenVINO on the CPU, or on an Intel GPU."""

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from refocus.engine.light_path.filters import show
from refocus.engine.light_path.sight import open_sight
from refocus.engine.model_file import read_model
from refocus.engine.parity import adversarial_frames, difference
from refocus.engine.prepare import Prepared, prepare, warm_up_frame
from refocus.engine.protocol import (
    UNKNOWN,
    DeviceError,
    Engine,
    EngineError,
    EngineInfo,
    Frame,
    LightPath,
    NotFiniteError,
    Ticket,
    log,
)
from refocus.engine.tiling import LARGEST, tiled
from refocus.engine.trust.evidence import NetworkOutputs
from refocus.engine.trust.judge import open_judge, refocus_and_judge

SHAPES_KEPT = 4
PRECISIONS = ("auto", "f32", "bf16", "f16")
TELLING = ("cells", "odd size", "nearly empty")
"""Frames that low precision is tried on; they cost a quarter of a second."""


class OpenVinoEngine(Engine):
    """Runs an ONNX model; a network is compiled per frame size, a few are kept.

    Parameters
    ----------
    model
        ONNX file with a card.
    threads
        CPU threads. Default: all cores but one, which is left to the acquisition.
    device
        ``"CPU"``, or ``"GPU"`` for an Intel GPU.
    precision
        ``"f32"``, ``"bf16"`` or ``"f16"``; ``"auto"`` takes the lower one where the device
        computes it natively and the model stays within the bound of
        :mod:`refocus.engine.parity`.
    judged
        Judge every result, if the model was calibrated.
    cache
        Folder for compiled networks, so that the next start is faster. Default: none is kept.

    Raises
    ------
    EngineError
        The model cannot be read, or OpenVINO cannot compile it.
    DeviceError
        OpenVINO does not see this device.
    """

    def __init__(
        self,
        model: Path,
        threads: int | None = None,
        *,
        device: str = "CPU",
        precision: str = "auto",
        judged: bool = True,
        cache: Path | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            allowed = ", ".join(PRECISIONS)
            raise EngineError(f"precision {precision!r}: not known; allowed: {allowed}")
        proto, self._card = read_model(model)
        self._threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self._core = ov.Core()
        self._device = _device(self._core, device)
        threads_used = f", {self._threads} threads" if self._device == "CPU" else ""
        full_name = str(self._core.get_property(self._device, "FULL_DEVICE_NAME")).strip()
        self._name = full_name + threads_used  # asked for with every frame
        self._cache = cache
        try:
            graph = self._core.read_model(proto.SerializeToString())
        except RuntimeError as error:
            raise EngineError(f"{model}: OpenVINO cannot read it ({_line(error)})") from error
        self._judge = open_judge(proto, self._card, str(model)) if judged else None
        self._sight = open_sight(proto, self._card, str(model))
        there = {name for output in graph.outputs for name in output.get_names()}
        telling = there.issuperset(NetworkOutputs._fields)
        self._outputs = NetworkOutputs._fields if telling else ("refocused",)
        self._graph = ov.Model([graph.output(n) for n in self._outputs], graph.get_parameters())
        self._compiled: OrderedDict[tuple[int, ...], ov.InferRequest] = OrderedDict()
        self._lock = threading.Lock()
        self._network = tiled(self._infer, LARGEST)
        self._closed = False
        self._precision = "f32" if precision == "auto" else precision
        if precision == "auto":
            self._precision = self._fastest_that_agrees()

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        return EngineInfo("openvino", self._name, self._precision, self._card)

    def warm_up(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Compile for frames of this shape."""
        if self._judge is not None:
            self._judge.warm_up()
        self.refocus(warm_up_frame(shape, dtype))

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        """Take a frame: it is computed when its ticket is called, by every thread allowed."""
        if self._closed:
            raise EngineError("the engine is closed; open it again")
        return lambda: refocus_and_judge(
            frame, self._network, self._judge, self.info, self._sight, light_path
        )

    def outputs(
        self, frame: Frame, light_path: LightPath = UNKNOWN
    ) -> tuple[Prepared, NetworkOutputs]:
        """Give the frame as the network is shown it, and all that it says, for calibration."""
        if len(self._outputs) < len(NetworkOutputs._fields):
            raise EngineError(
                f"the model {self._card.name} says nothing but pixels; export it again with "
                "'refocus-export onnx'"
            )
        prepared = prepare(frame, light_path.brightness)
        seen = prepared.seen
        sight = self._sight
        shown = seen if sight is None else show(seen, sight.likely(frame, light_path))
        return prepared, NetworkOutputs(*self._network(shown))

    def close(self) -> None:
        """Release the compiled networks."""
        with self._lock:
            self._closed = True
            self._compiled.clear()

    def _infer(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        # one frame at a time: it already uses every thread it is allowed
        with self._lock:
            request = self._request(pixels.shape[-2:])
            try:
                shown = np.ascontiguousarray(pixels).reshape(
                    1, self._card.inputs, *pixels.shape[-2:]
                )
                request.infer({0: shown}, share_inputs=True)
            except RuntimeError as error:
                raise DeviceError(f"OpenVINO failed on {self._device}: {_line(error)}") from error
            pixels, *told = (
                request.get_output_tensor(i).data[0] for i in range(len(self._outputs))
            )
            return np.array(pixels[0]), *(np.array(part) for part in told)

    def _request(self, shape: tuple[int, ...]) -> ov.InferRequest:
        if self._closed:
            raise EngineError("the engine is closed; open it again")
        request = self._compiled.get(shape)
        if request is None:
            graph = self._graph.clone()
            try:
                graph.reshape([1, self._card.inputs, *shape])
                compiled = self._core.compile_model(graph, self._device, self._options())
            except RuntimeError as error:
                raise EngineError(f"OpenVINO cannot compile for {shape}: {_line(error)}") from error
            given = compiled.output(0).partial_shape
            if given != ov.PartialShape([1, 1, *shape]):
                raise EngineError(
                    f"the model {self._card.name} makes {given} of a frame of "
                    f"{shape[0]}×{shape[1]}; export it again"
                )
            request = self._compiled[shape] = compiled.create_infer_request()
            while len(self._compiled) > SHAPES_KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(shape)
        return request

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self._precision,
        }
        if self._device == "CPU":
            options["INFERENCE_NUM_THREADS"] = self._threads
            # a pinned thread would wait for its core while the acquisition has it
            options["ENABLE_CPU_PINNING"] = False
        if self._cache is not None:
            options["CACHE_DIR"] = str(self._cache)
        return options

    def _fastest_that_agrees(self) -> str:
        """Try the device's low precision against f32, on frames that it fails on first."""
        native = self._core.get_property(self._device, "OPTIMIZATION_CAPABILITIES")
        low = "bf16" if self._device == "CPU" else "f16"
        if {"bf16": "BF16", "f16": "FP16"}[low] not in native:
            return "f32"
        frames = {name: adversarial_frames()[name] for name in TELLING}
        results: dict[str, list[NDArray[np.float64]]] = {}
        try:
            for self._precision in ("f32", low):
                self._compiled.clear()
                results[self._precision] = [
                    self.refocus(frame).astype(np.float64) for frame in frames.values()
                ]
        except NotFiniteError:
            return self._kept_f32(low, "NaN or infinity")
        for name, wanted, given in zip(frames, results["f32"], results[low], strict=True):
            found = difference(name, wanted, given)
            if found.problem:
                return self._kept_f32(low, f"{found.problem} on the frame '{name}'")
        return low

    def _kept_f32(self, low: str, why: str) -> str:
        log.info("%s is not used for the model %s: %s", low, self._card.name, why)
        self._compiled.clear()
        return "f32"


def _device(core: ov.Core, name: str) -> str:
    """Check that OpenVINO sees the device."""
    device = name.upper()
    seen = core.available_devices
    if device.split(".", maxsplit=1)[0] not in {s.split(".", maxsplit=1)[0] for s in seen}:
        raise DeviceError(
            f"device {name!r}: OpenVINO does not see it; it sees {', '.join(seen)} "
            "(an Intel GPU needs its compute driver)"
        )
    return device


def _line(error: Exception) -> str:
    """Give the telling line of OpenVINO's many."""
    lines = [text.strip() for text in str(error).splitlines() if text.strip()]
    return lines[-1] if lines else type(error).__name__
