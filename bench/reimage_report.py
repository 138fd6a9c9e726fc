"""What refocus or take again saves on a plate that is tilted, uneven and drifts: table and picture.

The same fields of the simulated microscope are taken four ways: once as planned; as planned and
refocused; as a z-stack, of which the sharpest plane is kept; and with ``--reimage``. The truth is
each field in focus.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import useq

from refocus.acquisition import FrameResult, attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.sinks.reimaging import Reimaging
from refocus.bench.report_command import count, run_report
from refocus.configs import BBBC006
from refocus.engine import open_engine
from refocus.engine.protocol import Engine
from refocus.optics.drawing import BLUE, GREY, INK, LINE, PAPER, RED, canvas, write
from refocus.optics.metrics import gtn, psnr

SIDE_PX = 256
TILT_UM_PER_MM, UNEVEN_UM, DRIFT_UM_PER_MIN = 6.0, 2.5, 1.0
STACK_UM, STEP_UM = 32.0, 4.0
"""The z-stack that somebody would take who knows of the tilt, and its step."""
LIMIT_UM = 16.0
SECONDS = 60.0
"""Of each field; long, so that what is decided does not depend on how fast this machine is."""
AS_GOOD_DB = 3.0
"""A field would be taken again that is more than this below the sharpest plane of its stack."""
GREEN = (64, 140, 84)


@dataclass
class Way:
    """One way to take the plate: its exposures, and of each field what is kept."""

    name: str
    exposures: int = 0
    quality_db: dict[int, float] = field(default_factory=dict)
    distance_um: dict[int, float] = field(default_factory=dict)

    def keep(self, number: int, quality_db: float, distance_um: float) -> None:
        """Keep a frame of a field instead of the one before."""
        self.quality_db[number], self.distance_um[number] = quality_db, distance_um


class _Collector:
    """A sink that measures every frame against what its field shows in focus."""

    def __init__(self, microscope: SimulatedMicroscope) -> None:
        self._microscope = microscope
        self.frames: list[dict[str, Any]] = []

    def start(self, run: Any) -> None:
        """Nothing to prepare."""

    def put(self, result: FrameResult) -> None:
        """Measure a frame."""
        frame = result.captured
        truth = self._microscope.truth(frame.frame)
        assert truth.in_focus is not None
        self.frames.append(
            {
                "field": frame.index["p"],
                "frame": frame.frame,
                "um": truth.z_um,
                "captured": psnr(*gtn(truth.in_focus, frame.pixels)),
                "published": psnr(*gtn(truth.in_focus, result.pixels)),
                **(result.decision or {"take": frame.frame, "action": ""}),
            }
        )

    def close(self, stats: Any) -> None:
        """Nothing to end."""


def main() -> None:
    """Print the table, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--fields", type=count, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    engine = open_engine(given.engine)
    ways = measure(engine, given.fields, given.seed)
    engine.close()
    if given.picture:
        save_picture(given.picture, ways)
    print(json.dumps([vars(way) for way in ways], indent=2) if given.json else markdown(ways))


def measure(engine: Engine, fields: int, seed: int) -> list[Way]:
    """Take the plate in each of the ways."""
    stack = {"range": STACK_UM, "step": STEP_UM}
    bare, refocused, stacked, steered = map(
        Way, ("as planned", "as planned, refocused", "z-stack, sharpest plane", "--reimage")
    )
    for one in _taken(engine, fields, seed):
        bare.keep(one["field"], one["captured"], one["um"])
        refocused.keep(one["field"], one["published"], one["um"])
        bare.exposures += 1
        refocused.exposures += 1
    for one in _taken(engine, fields, seed, z_plan=stack):
        if one["captured"] > stacked.quality_db.get(one["field"], 0.0):
            stacked.keep(one["field"], one["captured"], one["um"])
        stacked.exposures += 1

    frames = _taken(engine, fields, seed, steer=True)
    kept = {one["field"]: one["take"] for one in frames}  # what its last frame says
    for one in frames:
        steered.exposures += 1
        if kept[one["field"]] == one["frame"]:
            which = "captured" if one["action"] == "accept" else "published"
            steered.keep(one["field"], one[which], one["um"])
    return [bare, refocused, stacked, steered]


@contextmanager
def plate(seed: int) -> Iterator[SimulatedMicroscope]:
    """Give a microscope with a plate that is not level."""
    with SimulatedMicroscope(
        frame_shape=(SIDE_PX, SIDE_PX),
        optics=BBBC006,
        tilt_um_per_mm=TILT_UM_PER_MM,
        uneven_um=UNEVEN_UM,
        drift_um_per_min=DRIFT_UM_PER_MIN,
        seed=seed,
    ) as microscope:
        yield microscope


def _taken(
    engine: Engine, fields: int, seed: int, steer: bool = False, **plans: Any
) -> list[dict[str, Any]]:
    width_um = SIDE_PX * BBBC006.pixel_size_um
    places = tuple(
        useq.Position(x=(number - fields // 2) * width_um, y=0.0, z=0.0) for number in range(fields)
    )
    sequence = useq.MDASequence(stage_positions=places, **plans)
    with plate(seed) as microscope:
        collector = _Collector(microscope)
        core = microscope.core
        steering = [Reimaging(sequence, core, seconds=SECONDS, limit_um=LIMIT_UM)] if steer else []
        with attach(core, engine=engine, sinks=[*steering, collector], throttle=True):
            core.mda.run(steering[0] if steering else sequence)
    return collector.frames


def markdown(ways: Sequence[Way]) -> str:
    """Set the table in Markdown."""
    best = ways[2].quality_db
    lines = [
        "| way | exposures a field | to be taken again | median | worst tenth |",
        "|---|---|---|---|---|",
    ]
    for way in ways:
        quality = np.array(list(way.quality_db.values()))
        lines.append(
            f"| {way.name} | {way.exposures / len(best):.2f} | {len(rescans(way, best))} of "
            f"{len(best)} | {np.median(quality):.1f} dB | {np.quantile(quality, 0.1):.1f} dB |"
        )
    return "\n".join(lines)


def rescans(way: Way, best: dict[int, float]) -> list[int]:
    """Name the fields that are not nearly as good as the sharpest plane of their stack."""
    return [n for n, quality in way.quality_db.items() if quality < best[n] - AS_GOOD_DB]


def save_picture(path: Path, ways: Sequence[Way]) -> None:
    """Draw distance from focus, and quality, from field to field."""
    picture, pen = canvas((900, 560), PAPER)
    count = len(ways[0].quality_db)
    styles = zip(ways, (GREY, BLUE, GREEN, RED), strict=True)
    rows: list[tuple[str, int, float, str]] = [
        (
            "Distance from focus of what is kept, 0 to 24 µm, field by field",
            40,
            24.0,
            "distance_um",
        ),
        ("Quality of what is kept, 15 to 55 dB", 300, 40.0, "quality_db"),
    ]
    for title, top, _, _ in rows:
        write(pen, (50, top - 24), title, 15, INK)
        pen.line([(50, top + 200), (870, top + 200)], fill=LINE)
    for number, (way, colour) in enumerate(styles):
        write(pen, (60 + 200 * number, 532), way.name, 15, colour)
        for _, top, full, what in rows:
            points = [
                (50 + 820 * (n + 0.5) / count, top + 200 * (1 - _part(value, full, what)))
                for n, value in sorted(getattr(way, what).items())
            ]
            pen.line(points, fill=colour, width=2)
    picture.save(path, format="PNG")


def _part(value: float, full: float, what: str) -> float:
    above = abs(value) if what == "distance_um" else value - 15.0
    return min(max(above / full, 0.0), 1.0)


if __name__ == "__main__":
    run_report(main)
