"""What the known steps of a z-stack are worth: distance and quality with them and without.

Stacks of nine planes through focus are simulated on several objectives, with the optics told; the
first two planes, from which nothing is known yet, are not counted. The truth is the object through
the same optics in focus.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refocus.bench.report_command import count, run_report
from refocus.configs import Optics
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.refocuser import Refocuser
from refocus.optics.transfer import light_path_of, slope
from refocus.training.judging.objectives import OBJECTIVES, Case, Example, examples, quality

PLANES, FIRST = 9, 2
"""Planes of a stack, and the first that counts."""
DIFFERENT = 5
"""The sixth objective is the fifth on the other side of focus."""
HEADS = (
    *("objective, step", "distance, µm off: without", "with"),
    *("quality, dB: do nothing", "without", "with"),
)


class Plane(NamedTuple):
    """One of a stack: where the stage was, its distance from focus, both µm, and the frame."""

    z_um: float
    distance_um: float
    example: Example


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--stacks", type=count, default=4, help="of each objective")
    parser.add_argument("--objectives", type=count, default=DIFFERENT, help="how many of them")
    given = parser.parse_args()
    engine = OpenVinoEngine(given.model, precision="f32")
    print("| " + " | ".join(HEADS) + " |\n" + "|---" * len(HEADS) + "|")
    for case in OBJECTIVES[: min(given.objectives, DIFFERENT)]:
        row = measure(engine, case, given.stacks)
        name = case.name.partition(",")[0]
        cells = " | ".join(f"{value:.2f}" for value in row)
        print(f"| {name}, {_step(case):g} µm | {cells} |", flush=True)
    engine.close()


def measure(engine: OpenVinoEngine, case: Case, stacks: int) -> list[float]:
    """Give the row of an objective: means over the planes of its stacks."""
    path = light_path_of(case.optics)
    found: list[tuple[float, ...]] = []
    for number in range(stacks):
        run = Refocuser(engine, on_distrust="refocused")
        for place, plane in enumerate(stack(case, number)):
            errors, qualities = [], [quality(plane.example, plane.example.frame)]
            for channel, z_um in (("without", None), ("with", plane.z_um)):
                frame = plane.example.frame
                known = run.believe(frame, channel, path, "", z_um)
                if place < FIRST:
                    continue
                off_um = abs(known.believed[0].radius) / _radius_per_um(case.optics)
                errors.append(abs(off_um - abs(plane.distance_um)))
                pixels = run.refocus(frame, channel, known).pixels
                qualities.append(quality(plane.example, pixels))
            if place >= FIRST:
                found.append((*errors, *qualities))
    return [float(mean) for mean in np.mean(found, 0)]


def stack(case: Case, number: int) -> Iterator[Plane]:
    """Simulate a stack through focus, whose planes lie anywhere beside it."""
    step = _step(case)
    beside = np.random.default_rng(number).uniform(-0.5, 0.5)
    for place in range(PLANES):
        distance_um = float((place - PLANES // 2 + beside) * step)
        *_, example = examples(Case("", case.optics, distance_um), number + 1)
        yield Plane(place * step, distance_um, example)


def _step(case: Case) -> float:
    return case.defocus_um / 2


def _radius_per_um(optics: Optics) -> float:
    return slope(min(optics.na / optics.immersion_index, 0.98)) / optics.pixel_size_um


if __name__ == "__main__":
    run_report(main)
