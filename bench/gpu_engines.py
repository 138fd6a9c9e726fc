"""The engines that the report of a GPU machine compares, and what a user would write instead."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from refocus.engine import Engine
from refocus.engine.model_file import read_model
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.prepare import warm_up_frame
from refocus.engine.protocol import UNKNOWN, EngineInfo, Frame
from refocus.engine.tensorrt.engine import TensorRtEngine

Opener = Callable[[Path, bool], Engine]
"""Opens a model, with or without its judge."""


class UserCallback(Engine):
    """What a user would write in a callback: PyTorch, eager FP32 or compiled FP16, and wait.

    Parameters
    ----------
    model
        ONNX file with a card.
    compiled
        FP16 through ``torch.compile``; otherwise eager FP32.
    """

    def __init__(self, model: Path, compiled: bool) -> None:
        import torch

        from refocus.engine.half_precision import half_precision
        from refocus.engine.light_path.sight import open_sight
        from refocus.engine.torch.compiled import compile_network
        from refocus.engine.torch.filters import TensorFilters
        from refocus.engine.torch.graph import TorchGraph

        proto, self._card = read_model(model)
        self._sight = open_sight(proto, self._card, str(model))
        self._filters = TensorFilters(torch.device("cuda"))
        self._compiled = compiled
        graph = TorchGraph(half_precision(proto) if compiled else proto).cuda().eval()
        if compiled:
            graph = graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: Any = compile_network(graph) if compiled else graph

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        precision = "fp16" if self._compiled else "f32"
        return EngineInfo("torch.compile" if self._compiled else "eager", "", precision, self._card)

    def warm_up(self, shape: tuple[int, int], dtype: Any) -> None:
        """Run once."""
        self.refocus(warm_up_frame(shape, dtype))

    def refocus(self, frame: Frame) -> Frame:
        """Copy in, compute, copy out, one after the other."""
        import torch

        from refocus.engine.light_path.filters import tables
        from refocus.engine.torch.counts import as_frame, as_tensor, refocus_counts

        with torch.inference_mode():
            show = None
            if self._sight is not None:
                told = torch.from_numpy(tables(self._sight.likely(frame, UNKNOWN)))[None].cuda()
                show = partial(self._filters.show, tables=told)
            counted = refocus_counts(as_tensor(frame).cuda(), lambda x: (self._network(x),), show)
            return as_frame(counted.counts.cpu())

    def close(self) -> None:
        """Free the network."""
        self._network = None


GPU_ENGINES: dict[str, Opener] = {
    "CUDA graphs FP16": lambda model, judged: _torch(model, "cuda", judged, compiled=False),
    "TensorRT FP16": lambda model, judged: TensorRtEngine(model, "tensorrt", judged),
    "TensorRT-RTX FP16": lambda model, judged: TensorRtEngine(model, "tensorrt-rtx", judged),
    "CUDA graphs FP16, compiled": lambda model, judged: _torch(model, "cuda", judged),
    "PyTorch eager FP32": lambda model, judged: UserCallback(model, compiled=False),
    "torch.compile FP16": lambda model, judged: UserCallback(model, compiled=True),
}
CPU_ENGINES: dict[str, Opener] = {
    "OpenVINO": lambda model, judged: OpenVinoEngine(model, judged=judged),
    "OpenVINO f32": lambda model, judged: OpenVinoEngine(model, precision="f32", judged=judged),
    "PyTorch CPU": lambda model, judged: _torch(model, "cpu", judged),
}


def _torch(model: Path, device: str, judged: bool, compiled: bool = True) -> Engine:
    from refocus.engine.torch.engine import TorchEngine

    return TorchEngine(model, device, judged=judged, compiled=compiled)
