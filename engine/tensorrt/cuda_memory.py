"""A TensorRT plan on device memory of cuda-python, where PyTorch is not installed.

Counts are normalised on the CPU here, so it is the slower of the two ways.
"""

import importlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refocus.engine.protocol import DeviceError
from refocus.engine.trust.evidence import NetworkOutputs

SHAPES_KEPT = 4


@dataclass
class _Bound:
    """A context for one shape, and the device memory it works on."""

    context: Any
    addresses: dict[str, int]
    shape: tuple[int, int]


class CudaNetwork:
    """Runs padded, normalised frames through plans, one at a time.

    Parameters
    ----------
    plan
        Gives the deserialised plan for a shape.

    Raises
    ------
    DeviceError
        cuda-python is not installed, or the device does not answer.
    """

    def __init__(self, plan: Callable[[tuple[int, int]], Any]) -> None:
        self._cuda = _bindings()
        self._plan = plan
        self._lock = threading.Lock()
        self._bound: OrderedDict[tuple[int, int], _Bound] = OrderedDict()
        self._stream = self._ask("cudaStreamCreate")

    def __call__(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Give all outputs for ``(H, W)``, the refocused ``(H, W)`` first."""
        shape = (pixels.shape[0], pixels.shape[1])
        with self._lock:
            if shape not in self._bound:
                self._bound[shape] = self._bind(self._plan(shape), shape)
                while len(self._bound) > SHAPES_KEPT:
                    self._free(self._bound.popitem(last=False)[1])
            self._bound.move_to_end(shape)
            return self._execute(self._bound[shape], pixels)

    def run(self, engine: Any, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Run a plan once."""
        bound = self._bind(engine, (pixels.shape[0], pixels.shape[1]))
        try:
            return self._execute(bound, pixels)
        finally:
            self._free(bound)

    def close(self) -> None:
        """Free the device's memory."""
        with self._lock:
            while self._bound:
                self._free(self._bound.popitem()[1])
            self._ask("cudaStreamDestroy", self._stream)

    def _bind(self, engine: Any, shape: tuple[int, int]) -> _Bound:
        context = engine.create_execution_context()
        if context is None:
            raise MemoryError(
                f"the GPU has no room for the {engine.device_memory_size_v2 / 2**20:.0f} MiB "
                "that the engine needs"
            )
        if not context.set_input_shape("frames", (1, 1, *shape)):
            raise DeviceError(f"the engine does not serve frames of {shape[0]}×{shape[1]}")
        bound = _Bound(context, {}, shape)
        try:
            for i in range(engine.num_io_tensors):
                name = engine.get_tensor_name(i)
                size = int(np.prod(tuple(context.get_tensor_shape(name)))) * 4
                bound.addresses[name] = self._ask("cudaMalloc", size)
                context.set_tensor_address(name, bound.addresses[name])
        except (DeviceError, MemoryError):
            self._free(bound)
            raise
        return bound

    def _execute(
        self, bound: _Bound, pixels: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], ...]:
        kinds = self._cuda.cudaMemcpyKind
        source = np.ascontiguousarray(pixels, dtype=np.float32)
        to, back = kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost
        given, host = bound.addresses["frames"], source.ctypes.data
        self._ask("cudaMemcpyAsync", given, host, source.nbytes, to, self._stream)
        if not bound.context.execute_async_v3(int(self._stream)):
            raise DeviceError("TensorRT could not run the engine; the device may have failed")
        results = []
        for name in (n for n in NetworkOutputs._fields if n in bound.addresses):
            result = np.empty(tuple(bound.context.get_tensor_shape(name)), np.float32)
            address, host = bound.addresses[name], result.ctypes.data
            self._ask("cudaMemcpyAsync", host, address, result.nbytes, back, self._stream)
            results.append(result)
        self._ask("cudaStreamSynchronize", self._stream)
        refocused, *others = (result[0] for result in results)
        return refocused[0], *others

    def _free(self, bound: _Bound) -> None:
        for address in bound.addresses.values():
            self._ask("cudaFree", address)

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Call the CUDA runtime, and give its result or raise."""
        status, *given = getattr(self._cuda, name)(*arguments)
        if int(status) == int(self._cuda.cudaError_t.cudaErrorMemoryAllocation):
            raise MemoryError(f"the GPU has no room for {arguments[0] / 2**20:.0f} MiB more")
        if int(status) != 0:
            raise DeviceError(f"CUDA failed in {name} ({status.name}); the GPU may have been lost")
        return given[0] if given else None


def _bindings() -> Any:
    """Import cuda-python's runtime, by the name of its version."""
    for name in ("cuda.bindings.runtime", "cuda.cudart"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise DeviceError(
        "TensorRT needs PyTorch with CUDA or cuda-python to reach the GPU's memory; "
        "install one: pip install cuda-python"
    )
