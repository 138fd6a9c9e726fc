"""A network compiled for its device, or run step by step where that is not to be had.

Step by step every convolution, bias and activation reads and writes its frame of features anew;
PyTorch's compiler puts together what can be. What it makes is kept from run to run, in a folder of
the user's own, by model, device, frame size and version.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from refocus.configs import reason_of
from refocus.engine.cache_folder import cache_folder, own_folder
from refocus.engine.protocol import log

Network = Callable[[Tensor], Tensor | tuple[Tensor, ...]]

APART = 0.02
"""What results may differ by, of the largest: the compiler rounds at other places."""
RUNS = 5
KEPT_IN = "TORCHINDUCTOR_CACHE_DIR"
"""PyTorch's own word for the folder; whoever set it is obeyed."""


def fastest(plain: Network, example: Tensor) -> Network:
    """Compile a network for inputs of one shape, if that is of use.

    Parameters
    ----------
    plain
        Runs it step by step.
    example
        ``(1, C, H, W)``, on the network's device.

    Returns
    -------
    Network
        The compiled one, if it gives the same in less time; else ``plain``, and the log says why.
    """
    height, width = example.shape[-2:]
    log.info("compiling the network for %d×%d; a minute, if it was not before", height, width)
    begun = time.monotonic()
    try:
        network = compile_network(plain)
        with torch.inference_mode():
            why = why_not(plain, network, example)
    except Exception as error:  # the compiler's own, of many kinds; or there is none
        why = reason_of(error)
    if why:
        log.warning("the network runs step by step for %d×%d: %s", height, width, why)
        return plain
    log.info("compiled in %.0f s", time.monotonic() - begun)
    return network


def compile_network(plain: Network) -> Network:
    """Give a network that is compiled when it is first called.

    Raises
    ------
    EngineError
        The folder of what was compiled belongs to another user, or others may write to it.
    """
    folder = os.environ.get(KEPT_IN) or str(cache_folder() / "torch")
    own_folder(Path(folder))
    os.environ[KEPT_IN] = folder

    def run(pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
        return plain(pixels)

    # what is compiled is kept with the code that it is made of, eight times and no more: each
    # network has a copy of its own
    run.__code__ = run.__code__.replace()
    network: Network = torch.compile(run, dynamic=False, fullgraph=True)
    return network


def why_not(plain: Network, network: Network, example: Tensor) -> str:
    """Say why a network is not to be taken for another; nothing where it is."""
    wanted, given = _parts(plain(example)), _parts(network(example))
    for one, other in zip(wanted, given, strict=True):
        apart = float((one.float() - other.float()).abs().max())
        if not apart <= APART * float(one.abs().max()):
            return f"compiled, it gives something else ({apart:.2g} apart)"
    before, after = (_seconds(each, example) for each in (plain, network))
    if after >= before:
        return f"compiled, it is no faster ({1e3 * after:.2g} ms instead of {1e3 * before:.2g})"
    return ""


def _parts(given: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return given if isinstance(given, tuple) else (given,)


def _seconds(network: Network, example: Tensor) -> float:
    """Measure the shortest of a few runs; on CUDA without the time that launching takes."""
    cuda = example.device.type == "cuda"

    def run() -> object:
        return network(example)

    if cuda:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            network(example)
        run = graph.replay
    took = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        run()
        if cuda:
            torch.cuda.synchronize(example.device)
        took.append(time.perf_counter() - begun)
    return min(took)
