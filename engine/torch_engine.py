"""The PyTorch engine: CUDA where there is no TensorRT, and the CPU as the reference."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refocus.engine.frames import check_frame, run_network, warm_up_frame
from refocus.engine.half_precision import half_precision, precision
from refocus.engine.model_file import read_model
from refocus.engine.protocol import (
    DeviceError,
    EngineError,
    EngineInfo,
    Frame,
    NotFiniteError,
    log,
)
from refocus.engine.stream import IN_FLIGHT
from refocus.engine.tiling import tiled
from refocus.engine.torch_frames import as_frame, as_tensor, refocus_counts
from refocus.engine.torch_graph import TorchGraph

if TYPE_CHECKING:
    from refocus.engine.cuda_ring import CudaRing, Ticket

LARGEST_ON_CPU = 2560 * 2560


class TorchEngine:
    """Runs an ONNX model with PyTorch.

    On CUDA: FP16, channels last, CUDA graphs, frames overlapped (:mod:`refocus.engine.cuda_ring`).
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
        cuda = self._device.type == "cuda"
        if half if half is not None else cuda:
            proto = half_precision(proto)
        self._precision = precision(proto)
        graph = TorchGraph(proto).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._graph: torch.nn.Module = graph.to(self._device).eval()
        self._lock = threading.Lock()
        self._closed = False
        self._ring: CudaRing | None = None
        self._tiles = tiled(self._infer, 0 if cuda else LARGEST_ON_CPU)
        self._too_large: set[tuple[int, ...]] = set()
        if cuda:
            from refocus.engine import cuda_ring

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
        self.refocus(warm_up_frame(shape, dtype))

    def refocus(self, frame: Frame) -> Frame:
        """Refocus a frame; see :class:`~refocus.engine.protocol.Engine`."""
        self._check(frame)
        if self._ring is None:
            with self._lock:
                return self._on_cpu(frame)
        if frame.shape in self._too_large:
            return run_network(frame, self._tiles)
        try:
            return self._ring.finish(self._ring.start(frame))
        except MemoryError as error:
            return self._tile_instead(frame, error)

    @property
    def in_flight(self) -> int:
        """How many frames may be under way at once."""
        return 1 if self._ring is None else IN_FLIGHT

    def start(self, frame: Frame) -> "Ticket":
        """Send a frame to the device without waiting; see :mod:`refocus.engine.stream`."""
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
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _check(self, frame: Frame) -> None:
        if self._closed:
            raise EngineError("the engine is closed; open it again")
        check_frame(frame)

    def _run(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            refocused: Tensor = self._graph(pixels.contiguous(memory_format=torch.channels_last))
            return refocused

    def _infer(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = torch.from_numpy(pixels)[None, None].to(self._device)
        result: NDArray[np.float32] = self._run(batch)[0, 0].cpu().numpy()
        return result

    def _on_cpu(self, frame: Frame) -> Frame:
        if frame.size > LARGEST_ON_CPU:
            return run_network(frame, self._tiles)
        with torch.inference_mode():
            # copied: a tensor may not share memory that the camera marked read-only
            counts, finite = refocus_counts(as_tensor(frame.copy()), self._run)
        if not finite:
            raise NotFiniteError
        return as_frame(counts)

    def _tile_instead(self, frame: Frame, error: Exception) -> Frame:
        free, total = torch.cuda.mem_get_info(self._device)
        log.warning(
            "frames of %d×%d do not fit the GPU (%.1f of %.1f GiB free; %s): tiled from now on",
            *frame.shape,
            free / 2**30,
            total / 2**30,
            str(error).split(". ")[0],
        )
        self._too_large.add(frame.shape)
        torch.cuda.empty_cache()
        return run_network(frame, self._tiles)


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
