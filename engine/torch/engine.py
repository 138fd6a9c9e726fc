"""The PyTorch engine: CUDA where there is no TensorRT, and the CPU as the reference."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refocus.engine.half_precision import half_precision, precision
from refocus.engine.model_file import read_model
from refocus.engine.overlap import IN_FLIGHT
from refocus.engine.prepare import check_frame, warm_up_frame
from refocus.engine.protocol import (
    DeviceError,
    EngineError,
    EngineInfo,
    Frame,
    NotFiniteError,
    log,
)
from refocus.engine.tiling import tiled_outputs
from refocus.engine.torch.counts import as_frame, as_tensor, refocus_counts
from refocus.engine.torch.graph import TorchGraph
from refocus.engine.trust.evidence import NetworkOutputs
from refocus.engine.trust.judge import open_judge, refocus_and_judge
from refocus.engine.trust.judgement import UNRATED, Judgement

if TYPE_CHECKING:
    from refocus.engine.torch.ring import CudaRing, Ticket

LARGEST_ON_CPU = 2560 * 2560


class TorchEngine:
    """Runs an ONNX model with PyTorch.

    On CUDA: FP16, channels last, CUDA graphs, frames overlapped (:mod:`refocus.engine.torch.ring`).
    On the CPU: in the types that the graph states, one frame at a time.

    Parameters
    ----------
    model
        ONNX file with a card.
    device
        ``"cuda"``, ``"cuda:1"``, ``"cpu"``. Default: CUDA where there is one.
    half
        Convert an FP32 model to FP16. Default: on CUDA.

    Raises
    ------
    EngineError
        The model cannot be read, or has an operator that is not supported.
    DeviceError
        There is no such device.
    """

    def __init__(self, model: Path, device: str | None = None, half: bool | None = None) -> None:
        proto, self._card = read_model(model)
        self._device = _device(device)
        self._judge = open_judge(proto, self._card, str(model))
        cuda = self._device.type == "cuda"
        if half if half is not None else cuda:
            proto = half_precision(proto)
        self._precision = precision(proto)
        outputs = NetworkOutputs._fields if self._judge else ("refocused",)
        graph = TorchGraph(proto, outputs).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._graph: torch.nn.Module = graph.to(self._device).eval()
        self._lock = threading.Lock()
        self._closed = False
        self._ring: CudaRing | None = None
        self._tiles = tiled_outputs(self._infer, 0 if cuda else LARGEST_ON_CPU)
        self._too_large: set[tuple[int, ...]] = set()
        if cuda:
            from refocus.engine.torch import ring as cuda_ring

            self._ring = cuda_ring.CudaRing(lambda _: self._run, self._device)

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        if self._device.type == "cuda":
            device = torch.cuda.get_device_name(self._device)
        else:
            device = f"CPU, {torch.get_num_threads()} threads"
        words = {"fp32": "f32"}.get(self._precision, self._precision)
        return EngineInfo("torch", device, words, self._card)

    def warm_up(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Allocate for frames of this shape, and capture the CUDA graph."""
        if self._judge is not None:
            self._judge.warm_up()
        self.examine(warm_up_frame(shape, dtype))

    def refocus(self, frame: Frame) -> Frame:
        """Refocus a frame; see :class:`~refocus.engine.protocol.Engine`."""
        return self._refocused(frame, judged=False)[0]

    def examine(self, frame: Frame) -> tuple[Frame, Judgement]:
        """Refocus a frame and judge the result; see :class:`~refocus.engine.examine.Examining`."""
        return self._refocused(frame, judged=True)

    def _refocused(self, frame: Frame, judged: bool) -> tuple[Frame, Judgement]:
        self._check(frame)
        if self._ring is None:
            with self._lock:
                return self._on_cpu(frame, judged)
        if frame.shape in self._too_large:
            return self._in_tiles(frame, judged)
        try:
            if judged and self._judge is not None:
                return self._ring.examine(frame, self._judge)
            return self._ring.finish(self._ring.start(frame)), UNRATED
        except MemoryError as error:
            reason = str(error).split(". ", maxsplit=1)[0]
        # only here: the error's traceback kept what did not fit
        self._tile_from_now_on(frame, reason)
        return self._in_tiles(frame, judged)

    @property
    def in_flight(self) -> int:
        """How many frames may be under way at once."""
        return 1 if self._ring is None else IN_FLIGHT

    def start(self, frame: Frame) -> "Ticket":
        """Send a frame to the device without waiting; see :mod:`refocus.engine.overlap`."""
        self._check(frame)
        if self._ring is None:
            raise DeviceError("frames overlap on CUDA only; call refocus()")
        return self._ring.start(frame)

    def finish(self, ticket: "Ticket") -> Frame:
        """Wait for a frame that was started."""
        if self._ring is None:
            raise DeviceError("frames overlap on CUDA only; call refocus()")
        return self._ring.finish(ticket)

    def stage_ms(self, frame: Frame) -> dict[str, float]:
        """Measure copy in, compute and copy out, each alone; empty where there is no ring."""
        return {} if self._ring is None else self._ring.stage_ms(frame)

    def close(self) -> None:
        """Free the device."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._ring is not None:
                self._ring.close()
            self._graph = torch.nn.Identity()
            self._judge = None  # and what it keeps on the device
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _check(self, frame: Frame) -> None:
        if self._closed:
            raise EngineError("the engine is closed; open it again")
        check_frame(frame)

    def _run(self, pixels: Tensor) -> tuple[Tensor, ...]:
        if self._closed:
            raise EngineError("the engine is closed; open it again")
        with torch.inference_mode():
            given = self._graph(pixels.contiguous(memory_format=torch.channels_last))
            return given if isinstance(given, tuple) else (given,)

    def _infer(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        try:
            batch = torch.from_numpy(pixels)[None, None].to(self._device)
            refocused, *others = (part[0].cpu().numpy() for part in self._run(batch))
        except RuntimeError as error:
            raise DeviceError(f"PyTorch failed on a tile ({str(error).splitlines()[0]})") from error
        return refocused[0], *others

    def _in_tiles(self, frame: Frame, judged: bool) -> tuple[Frame, Judgement]:
        return refocus_and_judge(frame, self._tiles, self._judge if judged else None)

    def _on_cpu(self, frame: Frame, judged: bool) -> tuple[Frame, Judgement]:
        if frame.size > LARGEST_ON_CPU:
            return self._in_tiles(frame, judged)
        with torch.inference_mode():
            # copied: a tensor may not share memory that the camera marked read-only
            counted = refocus_counts(as_tensor(frame.copy()), self._run)
            if not counted.finite:
                raise NotFiniteError
            if self._judge is None or not judged:
                return as_frame(counted.counts), UNRATED
            outputs = NetworkOutputs(*counted.outputs)
            return as_frame(counted.counts), self._judge.judge(counted.seen, outputs)

    def _tile_from_now_on(self, frame: Frame, reason: str) -> None:
        free, total = torch.cuda.mem_get_info(self._device)
        log.warning(
            "frames of %d×%d do not fit the GPU (%.1f of %.1f GiB free; %s): tiled from now on",
            *frame.shape,
            free / 2**30,
            total / 2**30,
            reason,
        )
        self._too_large.add(frame.shape)
        torch.cuda.empty_cache()


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EngineError(f"device {name!r}: not known to PyTorch; use 'cuda' or 'cpu'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        built = "" if torch.version.cuda else " (this PyTorch is built for the CPU)"
        raise DeviceError(f"PyTorch finds no CUDA device{built}; use the engine 'openvino'")
    if device.type == "cpu":
        # one core is left to the acquisition, unless the user already said how many
        cores = os.cpu_count() or 2
        if torch.get_num_threads() >= cores > 1:
            torch.set_num_threads(cores - 1)
    return device
