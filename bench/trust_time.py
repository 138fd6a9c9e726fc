"""What judging a frame costs beside refocusing it, as a Markdown table.

python -m refocus.bench.trust_time engine/models/refocus-compact.onnx
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from refocus.bench.report_command import run_report
from refocus.engine.openvino import OpenVinoEngine
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.specimens import nuclei

SIDES, ROUNDS = (512, 1024, 2048), 9


def main() -> None:
    """Print the table: medians of runs in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    print("| frame | precision | refocus, ms | and judge, ms | ratio |\n|---|---|---|---|---|")
    for precision in ("f32", "auto"):
        unjudged, engine = (
            OpenVinoEngine(options.model, threads=1, precision=precision, judged=judged)
            for judged in (False, True)
        )
        assert engine.info.card is not None
        for side in SIDES:
            rng = np.random.default_rng(0)
            light = nuclei((side, side), rng) * 2000 + 100
            frame = CameraModel().expose(defocus(light, engine.info.card.optics, 8.0), rng)
            unjudged.refocus(frame), engine.refocus(frame)
            turns = [
                (timed(unjudged.refocus, frame), timed(engine.refocus, frame))
                for _ in range(ROUNDS)
            ]
            plain, judged = np.median(turns, axis=0) * 1000
            used = engine.info.precision
            print(
                f"| {side}² | {used} | {plain:.1f} | {judged:.1f} | {judged / plain:.2f} |",
                flush=True,
            )
        unjudged.close()
        engine.close()


def timed(work: Callable[[np.ndarray], object], frame: np.ndarray) -> float:
    """Give the seconds of the processor that one call takes: whatever else runs beside it."""
    begun = time.process_time()
    work(frame)
    return time.process_time() - begun


if __name__ == "__main__":
    run_report(main)
