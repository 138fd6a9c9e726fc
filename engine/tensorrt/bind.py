"""A TensorRT plan that reads and writes PyTorch's device memory."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refocus.engine.protocol import DeviceError
from refocus.engine.torch.counts import TensorNetwork
from refocus.engine.trust.evidence import NetworkOutputs

_TYPES = {"FLOAT": torch.float32, "HALF": torch.float16}


def bind(engine: Any, shape: tuple[int, int], told: bool = True, inputs: int = 1) -> TensorNetwork:
    """Make a network of a deserialised plan, for padded frames of one shape.

    It runs on PyTorch's current stream, so a CUDA graph can capture it. One call at a time. With
    ``told`` it gives all that a judge asks for, otherwise the pixels alone.

    Raises
    ------
    DeviceError
        The plan does not serve this shape, or the device is out of memory.
    """
    context = engine.create_execution_context()
    if context is None:
        raise MemoryError(
            f"the GPU has no room for the {engine.device_memory_size_v2 / 2**20:.0f} MiB "
            "that the engine needs"
        )
    if not context.set_input_shape("frames", (1, inputs, *shape)):
        raise DeviceError(f"the engine does not serve frames of {shape[0]}×{shape[1]}")
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    outputs = {
        name: torch.empty(
            tuple(context.get_tensor_shape(name)),
            dtype=_TYPES[engine.get_tensor_dtype(name).name],
            device="cuda",
        )
        for name in names
        if name != "frames"
    }

    wanted = NetworkOutputs._fields if told else ("refocused",)
    given = [outputs[name] for name in wanted if name in outputs]

    def run(pixels: Tensor) -> tuple[Tensor, ...]:
        held = pixels.contiguous()
        context.set_tensor_address("frames", held.data_ptr())
        for name, tensor in outputs.items():
            context.set_tensor_address(name, tensor.data_ptr())
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise DeviceError("TensorRT could not run the engine; the device may have failed")
        return tuple(given)

    return run


def run_once(engine: Any, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Run ``(H, W)`` or ``(C, H, W)`` from host memory, and wait; gives all outputs."""
    shown = pixels.reshape(-1, *pixels.shape[-2:])
    run = bind(engine, (shown.shape[1], shown.shape[2]), inputs=shown.shape[0])
    batch = torch.from_numpy(np.ascontiguousarray(shown))[None].cuda()
    refocused, *others = (part[0].cpu().numpy() for part in run(batch))
    return refocused[0], *others
