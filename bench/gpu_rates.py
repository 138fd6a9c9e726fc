"""What a network asks of a card, and what the card gives."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from refocus.engine.prepare import padded_shape

FP16_BYTES = 2


@dataclass(frozen=True)
class Rates:
    """What a card does in a second; 0.0 where nobody knows.

    Attributes
    ----------
    matrix
        Operations of an FP16 matrix product.
    memory
        Bytes read and written by a copy within its memory.
    """

    matrix: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True)
class Work:
    """What a network has to do for one frame.

    Attributes
    ----------
    operations
        Multiplications and additions of its convolutions.
    traffic
        Bytes that these read and write in FP16, each activation once.
    """

    operations: int
    traffic: int

    def shares(self, rates: Rates, milliseconds: float) -> dict[str, float]:
        """Give the parts of a card's rates that it takes, %, where they are known."""
        wanted = {
            "percent_of_matrix_rate": (self.operations, rates.matrix),
            "percent_of_bandwidth": (self.traffic, rates.memory),
        }
        return {
            name: 1e5 * amount / rate / milliseconds
            for name, (amount, rate) in wanted.items()
            if rate
        }


def work_of(model: onnx.ModelProto, shape: tuple[int, int]) -> Work:
    """Count what the convolutions do on a frame of this shape."""
    import openvino as ov

    graph = ov.Core().read_model(model.SerializeToString())
    channels = graph.input(0).partial_shape[1].get_length()
    graph.reshape([1, channels, *padded_shape(shape)])
    operations = traffic = 0
    for node in graph.get_ops():
        if node.get_type_name() == "Convolution":
            given, kernel = (list(node.input_value(i).get_shape()) for i in (0, 1))
            made = list(node.output(0).get_shape())
            operations += 2 * int(np.prod(kernel)) * int(np.prod(made[2:]))
            traffic += FP16_BYTES * int(np.prod(given) + np.prod(made))
    return Work(operations, traffic)


def card_rates() -> Rates:
    """Measure the card; all 0.0 without PyTorch and CUDA."""
    try:
        import torch
    except ImportError:
        return Rates()
    if not torch.cuda.is_available():
        return Rates()
    side = 8192
    try:
        a = torch.randn(side, side, device="cuda", dtype=torch.float16)
        much = torch.empty(1 << 29, device="cuda", dtype=torch.uint8)
        other = torch.empty_like(much)
        return Rates(
            matrix=2.0 * side**3 / _seconds(lambda: a @ a),
            memory=2.0 * much.numel() / _seconds(lambda: other.copy_(much)),
        )
    except torch.OutOfMemoryError:  # other programs have it
        return Rates()


def _seconds(work: Callable[[], object], runs: int = 20) -> float:
    import torch

    for _ in range(3):
        work()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(runs):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / runs
