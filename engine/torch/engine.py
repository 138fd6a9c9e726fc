"""The PyTorch engine: CUDA where there is no TensorRT, and the CPU as the reference."""

import os
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refocus.configs import reason_of
from refocus.engine.half_precision import half_precision, precision
from refocus.engine.light_path.filters import tables
from refocus.engine.light_path.sight import open_sight
from refocus.engine.model_file import read_model
from refocus.engine.prepare import check_frame, warm_up_frame
from refocus.engine.protocol import (
    UNKNOWN,
    DeviceError,
    Engine,
    EngineError,
    EngineInfo,
    Frame,
    LightPath,
    NotFiniteError,
    Refocused,
    Ticket,
)
from refocus.engine.tiling import tiled
from refocus.engine.torch.counts import TensorNetwork, as_frame, as_tensor, refocus_counts
from refocus.engine.torch.filters import TensorFilters
from refocus.engine.torch.graph import TorchGraph
from refocus.engine.trust.evidence import NetworkOutputs
from refocus.engine.trust.judge import in_um, open_judge, refocus_and_judge
from refocus.engine.trust.judgement import UNRATED

if TYPE_CHECKING:
    from refocus.engine.torch.compiled import Network
    from refocus.engine.torch.device_frames import DeviceFrames

LARGEST_ON_CPU = 2560 * 2560


class TorchEngine(Engine):
    """Runs an ONNX model with PyTorch.

    On CUDA: FP16, channels last, compiled, CUDA graphs, frames overlapped
    (:mod:`refocus.engine.torch.ring`).
    On the CPU: in the types that the graph states, one frame at a time.

    Parameters
    ----------
    model
        ONNX file with a card.
    device
        ``"cuda"``, ``"cuda:1"``, ``"cpu"``. Default: CUDA where there is one.
    half
        Convert an FP32 model to FP16. Default: on CUDA.
    judged
        Judge every result, if the model was calibrated.
    compiled
        On CUDA: compile it for each frame size, see :mod:`refocus.engine.torch.compiled`.

    Raises
    ------
    EngineError
        The model cannot be read, or has an operator that is not supported.
    DeviceError
        There is no such device.
    """

    def __init__(
        self,
        model: Path,
        device: str | None = None,
        half: bool | None = None,
        judged: bool = True,
        compiled: bool = True,
    ) -> None:
        proto, card = read_model(model)
        self._device = _device(device)
        self._judge = open_judge(proto, card, str(model)) if judged else None
        self._sight = open_sight(proto, card, str(model))
        self._filters = TensorFilters(self._device)
        cuda = self._device.type == "cuda"
        if half if half is not None else cuda:
            proto = half_precision(proto)
        words = precision(proto).replace("fp32", "f32")
        self._inputs = card.inputs
        self._info = EngineInfo("torch", _name(self._device), words, card)
        outputs = NetworkOutputs._fields if self._judge else ("refocused",)
        graph = TorchGraph(proto, outputs).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._graph: torch.nn.Module = graph.to(self._device).eval()
        self._lock = threading.Lock()
        self._closed = False
        self._tiles = tiled(self._infer, 0 if cuda else LARGEST_ON_CPU)
        self._frames: DeviceFrames | None = None
        if cuda:
            from refocus.engine.torch import device_frames

            self._frames = device_frames.DeviceFrames(
                self._fastest if compiled else lambda _: self._run,
                self._tiles,
                self._judge,
                lambda: self._info,
                self._device,
                self._sight,
            )

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        return self._info

    @property
    def overlap(self) -> int:
        """How many frames may be under way at once."""
        return 1 if self._frames is None else self._frames.overlap

    def warm_up(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Allocate for frames of this shape, and capture the CUDA graph."""
        if self._judge is not None:
            self._judge.warm_up()
        self.refocus(warm_up_frame(shape, dtype))

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        """Send a frame to the device; on the CPU it is computed when its ticket is called."""
        if self._closed:
            raise EngineError("the engine is closed; open it again")
        check_frame(frame)
        if self._frames is None:
            return lambda: self._on_cpu(frame, light_path)
        return self._frames.submit(frame, light_path)

    def stage_ms(self, frame: Frame) -> dict[str, float]:
        """Measure copy in, compute and copy out, each alone; empty where there is no ring."""
        return {} if self._frames is None else self._frames.ring.stage_ms(frame)

    def close(self) -> None:
        """Free the device."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._graph = torch.nn.Identity()
            self._judge = None
            if self._frames is not None:
                self._frames.close()

    def _fastest(self, shape: tuple[int, int]) -> TensorNetwork:
        """Give the network compiled for padded frames of one shape, if that is of use."""
        from refocus.engine.torch.compiled import fastest

        example = torch.rand((1, self._inputs, *shape), device=self._device)
        network = fastest(self._graph, example.contiguous(memory_format=torch.channels_last))
        return lambda pixels: self._run(pixels, network)

    def _run(self, pixels: Tensor, network: "Network | None" = None) -> tuple[Tensor, ...]:
        if self._closed:
            raise EngineError("the engine is closed; open it again")
        with torch.inference_mode():
            given = (network or self._graph)(pixels.contiguous(memory_format=torch.channels_last))
            return given if isinstance(given, tuple) else (given,)

    def _infer(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        try:
            shape = 1, self._inputs, *pixels.shape[-2:]
            batch = torch.from_numpy(pixels).reshape(shape).to(self._device)
            refocused, *others = (part[0].cpu().numpy() for part in self._run(batch))
        except RuntimeError as error:
            raise DeviceError(f"PyTorch failed on a tile ({reason_of(error)})") from error
        return refocused[0], *others

    def _on_cpu(self, frame: Frame, light_path: LightPath) -> Refocused:
        sight = self._sight
        with self._lock, torch.inference_mode():
            if frame.size > LARGEST_ON_CPU or light_path.brightness:
                return refocus_and_judge(
                    frame, self._tiles, self._judge, self._info, sight, light_path
                )
            show = likely = None
            if sight is not None:
                likely = sight.likely(frame, light_path)
                show = partial(self._filters.show, tables=torch.from_numpy(tables(likely))[None])
            # copied: a tensor may not share memory that the camera marked read-only
            counted = refocus_counts(as_tensor(frame.copy()), self._run, show)
            if not counted.finite:
                raise NotFiniteError
            said = UNRATED
            if self._judge is not None:
                said = self._judge.judge(counted.seen, NetworkOutputs(*counted.outputs), likely)
            said = in_um(said, sight, light_path)
            return Refocused(as_frame(counted.counts), said, self._info)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


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
