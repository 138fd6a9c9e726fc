"""The rate of frames through a Triton server on this host, beside the same model in this process.

Both run the model with OpenVINO and as many threads; a round of one follows a round of the other,
so that whatever else the machine does is the same for both.
"""

import argparse
import statistics
import tempfile
import time
from contextlib import closing
from itertools import repeat
from pathlib import Path

import numpy as np

from refocus.bench.report_command import count, run_report
from refocus.bench.triton_server import TritonServer
from refocus.engine import Engine
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.protocol import Frame, refocus_all
from refocus.engine.shipped import shipped_models
from refocus.engine.triton.address import read_address
from refocus.engine.triton.engine import TritonEngine
from refocus.export.to_triton import triton_from_onnx
from refocus.optics.specimens import nuclei


def rate(engine: Engine, frame: Frame, frames: int) -> float:
    """Measure frames per second, as many under way as the engine overlaps."""
    begun = time.perf_counter()
    for _ in refocus_all(engine, repeat(frame, frames)):
        pass
    return frames / (time.perf_counter() - begun)


def measure(model: Path, side: int, frames: int, rounds: int) -> list[tuple[float, float]]:
    """Give the rate of each round, frames per second: in this process, through the server.

    Parameters
    ----------
    model
        ONNX file with a card.
    side
        Height and width of the frames, pixels; 16 bit.
    frames
        Of each round.
    rounds
        Of each of the two.
    """
    rng = np.random.default_rng(0)
    frame = rng.poisson(300 + 9000 * nuclei((side, side), rng)).astype(np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        triton_from_onnx(model, Path(folder), backend="python", threads=1)
        with (
            TritonServer(Path(folder)) as server,
            closing(OpenVinoEngine(model, threads=1, precision="f32")) as bare,
            closing(TritonEngine(read_address(server.address), model)) as served,
        ):
            for engine in (bare, served):
                engine.warm_up(frame.shape, frame.dtype)
            return [(rate(bare, frame, frames), rate(served, frame, frames)) for _ in range(rounds)]


def main() -> None:
    """Print the rates, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(shipped_models()), default="refocus-compact")
    parser.add_argument("--side", type=count, default=2048)
    parser.add_argument("--frames", type=count, default=6)
    parser.add_argument("--rounds", type=count, default=3)
    options = parser.parse_args()
    rates = measure(shipped_models()[options.model], options.side, options.frames, options.rounds)
    for bare, served in rates:
        print(f"in this process {bare:.3f}/s, through the server {served:.3f}/s")
    ratio = statistics.median(served / bare for bare, served in rates)
    print(f"{options.model}, {options.side}²: {ratio:.2f} of the bare engine's rate (median)")


if __name__ == "__main__":
    run_report(main)
